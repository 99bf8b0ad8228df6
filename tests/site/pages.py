"""Pages as the site needs them: what they link to in the code becomes a page too."""

import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from .menu import HOME

INDEX = "index.md"  # what the README is in the site
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".yml": "yaml"}
# A link within the repository: where it leads, and the place there.
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"(^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def links(top: Path, page: str) -> set[Path]:
    """Where the links of a page within the repository lead."""
    prose = _CODE.sub("", (top / page).read_text(encoding="utf-8"))
    return {top / _path(page, found[1]) for found in _LINK.finditer(prose)}


def linked_code(top: Path, pages: Iterable[str]) -> set[str]:
    """The files of the code that any of ``pages`` links to."""
    found = {path.relative_to(top).as_posix() for page in pages for path in links(top, page)}
    return {path for path in found if _is_code(top, path)}


def code_page(top: Path, path: str) -> str:
    """The page that shows a file of the code, which no menu has."""
    text = (top / path).read_text(encoding="utf-8").rstrip()
    fence = "`" * max((len(run) + 1 for run in re.findall("`{3,}", text)), default=3)
    shown = f"{fence}{LANGUAGES[Path(path).suffix]}\n{text}\n{fence}"
    return f"---\norphan: true\n---\n\n# {path}\n\n{shown}\n"


def with_site_links(top: Path, page: str, text: str) -> str:
    """``text`` with links to folders, files of the code and the README as the site has them."""

    def to_page(found: re.Match[str]) -> str:
        link, path = found[1], _path(page, found[1])
        if path == HOME:
            return posixpath.join(posixpath.dirname(link), INDEX) + (found[2] or "")
        if _is_code(top, path):
            return f"{link}.md"  # which has no lines to lead to
        return posixpath.join(link, HOME) if (top / path).is_dir() else found[0]

    return _in_prose(text, lambda prose: _LINK.sub(to_page, prose))


def _in_prose(text: str, change: Callable[[str], str]) -> str:
    """``text`` changed where it is neither a block of code nor set as code."""
    made, end = [], 0
    for code in _CODE.finditer(text):
        made += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*made, change(text[end:])])


def _path(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _is_code(top: Path, path: str) -> bool:
    return Path(path).suffix in LANGUAGES and (top / path).is_file()
