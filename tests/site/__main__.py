"""Builds the site, ``build/site``: a dead link or a page in no menu is an error.

    python -m tests.site
    python -m http.server -d build/site       # then look at http://localhost:8000

The pages are laid out in a folder of their own as they lie in the repository, with a page for each
file of the code that they link to and one for the public names, and Sphinx makes HTML of that.
"""

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from .menu import HOME, TOP, menu, written
from .offline import fetched
from .pages import INDEX, code_page, linked_code, with_site_links
from .reference import PAGE, reference

HERE = Path(__file__).parent
SITE, SOURCE, STATE = (TOP / "build" / name for name in ("site", "site-source", "site-state"))
PICTURES = (".svg", ".png")


def lay_out(source: Path) -> None:
    """Write what Sphinx reads."""
    groups = menu((TOP / HOME).read_text(encoding="utf-8"))
    for page in written():
        text = with_site_links(TOP, page, (TOP / page).read_text(encoding="utf-8"))
        inner = [i for g in groups for e in g.entries if e.page == page for i in e.inner]
        _write(source, INDEX if page == HOME else page, text + _tree("", Path(page).parent, inner))
    for path in linked_code(TOP, written()):
        _write(source, f"{path}.md", code_page(TOP, path))
    _write(source, PAGE, reference())
    for picture in (p for p in (TOP / "docs").rglob("*") if p.suffix in PICTURES):
        shutil.copy(picture, source / picture.relative_to(TOP))
    trees = [_tree(g.title, Path(), [e.page for e in g.entries]) for g in groups]
    with (source / INDEX).open("a", encoding="utf-8") as index:
        index.write("".join([*trees, _tree("Reference", Path(), [PAGE])]))


def _tree(title: str, folder: Path, pages: list[str]) -> str:
    """The directive that puts ``pages`` into the menu."""
    if not pages:
        return ""
    names = [Path(page).relative_to(folder).as_posix() for page in pages]
    caption = f":caption: {title}\n" if title else ""
    return "\n```{toctree}\n:hidden:\n" + caption + "\n" + "\n".join(names) + "\n```\n"


def _write(source: Path, page: str, text: str) -> None:
    path = source / page
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> int:
    """Build; returns the exit status."""
    for folder in (SOURCE, SITE, STATE):
        shutil.rmtree(folder, ignore_errors=True)
    lay_out(SOURCE)
    options = ("-q", "-W", "--keep-going", "-b", "html", "-c", str(HERE), "-d", str(STATE))
    if status := build_main([*options, str(SOURCE), str(SITE)]):
        return status
    for line in (elsewhere := fetched(SITE)):
        sys.stderr.write(f"error: loads from elsewhere: {line}\n")
    return 1 if elsewhere else 0


if __name__ == "__main__":
    sys.exit(main())
