"""The menu of the site: the list under "Read" in the README, group by group."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
HOME = "README.md"
LIST = "## Read"
_LINK = re.compile(r"\]\(([^)#:\s]+)\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A page by its path from the top of the repository, with those that lie in its folder."""

    page: str
    inner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """What stands under one heading of the list."""

    title: str
    entries: tuple[Entry, ...]


def menu(readme: str, top: Path = TOP) -> list[Group]:
    """The groups of the list in ``readme``. A link to a folder brings the pages of the folder."""
    found, seen = [], {HOME}
    named = {page for _, links in _groups(readme) for page in links}
    for title, links in _groups(readme):
        entries = []
        for link in links:
            if (top / link).is_dir():
                entries.append(_folder(top, link, named))
            elif link.endswith(".md") and link not in seen:
                entries.append(Entry(link))
                seen.add(link)
        found.append(Group(title, tuple(entries)))
    return found


def listed(groups: list[Group]) -> set[str]:
    """Every page that the menu leads to."""
    return {page for g in groups for e in g.entries for page in (e.page, *e.inner)} | {HOME}


def written(top: Path = TOP) -> list[str]:
    """The pages that there are to read."""
    return sorted(
        path.relative_to(top).as_posix()
        for place in (top.glob("*.md"), (top / "docs").rglob("*.md"))
        for path in place
    )


def _folder(top: Path, link: str, named: set[str]) -> Entry:
    pages = (path.relative_to(top).as_posix() for path in sorted((top / link).glob("*.md")))
    first = f"{link}/{HOME}"
    return Entry(first, tuple(page for page in pages if page not in named | {first}))


def _groups(readme: str) -> Iterator[tuple[str, list[str]]]:
    section = readme.partition(f"\n{LIST}\n")[2].partition("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        title, *lines = part.splitlines()
        # A point may go on in lines that are indented.
        points = [line for line in lines if line.startswith(("- ", "  "))]
        yield title, [link.rstrip("/") for line in points for link in _LINK.findall(line)]
