"""Pages as the site needs them: what they link to in the code becomes a page too."""

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from .menu import HOME

INDEX = "index.md"  # what the README is in the site
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".yml": "yaml"}
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")
_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def linked_code(top: Path, pages: Iterable[str]) -> set[str]:
    """The files of the code that any of ``pages`` links to."""
    found = set()
    for page in pages:
        prose = _CODE.sub("", (top / page).read_text(encoding="utf-8"))
        found |= {_path(page, link) for link in _LINK.findall(prose)}
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
            return posixpath.join(posixpath.dirname(link), INDEX)
        if _is_code(top, path):
            return f"{link}.md"
        return posixpath.join(link, HOME) if (top / path).is_dir() else link

    return _LINK.sub(to_page, text)


def _path(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _is_code(top: Path, path: str) -> bool:
    return Path(path).suffix in LANGUAGES and (top / path).is_file()
