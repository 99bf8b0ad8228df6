"""Rows of a study as a picture tells them apart: groups by recipe or by an option, and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from ...compiler.errors import UsageError, closest
from .entry import SCHEDULE, WITHOUT, Entry
from .results import RecipeRow

RECIPE = "recipe"
LINES = ("-", "--", ":", "-.")
COLOURS = 10


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row with its colour, which is that of its group, its line, and its name beside a point."""

    row: RecipeRow
    group: str
    name: str
    colour: str
    line: str


def changes(entry: Entry) -> dict[str, str]:
    """What a row has otherwise than its recipe, by key."""
    out = {WITHOUT: ",".join(entry.without)} if entry.without else {}
    return {**entry.options, **out, **{k: str(v) for k, v in entry.own.items()}}


def drawn(rows: Sequence[RecipeRow], by: str = RECIPE) -> list[Drawn]:
    """The rows with colours by group; UsageError for a key that no row has."""
    if by != RECIPE:
        known = {RECIPE, SCHEDULE} | {key for row in rows for key in changes(row.entry)}
        if not any(by in changes(row.entry) for row in rows):
            raise UsageError(f"--by: no row sets {by!r}; {closest(by, known)}")
    groups = list(dict.fromkeys(_group(row.entry, by) for row in rows))
    lines = {group: cycle(LINES) for group in groups}
    one = len(groups) == 1
    found: list[Drawn] = []
    for row in rows:
        group = _group(row.entry, by)
        name = _name(row.entry, by if len(groups) > 1 else "")
        number = len(found) if one else groups.index(group)
        line = LINES[0] if one else next(lines[group])
        found.append(Drawn(row, group, name, f"C{number % COLOURS}", line))
    return found


def _group(entry: Entry, by: str) -> str:
    if by == RECIPE:
        return Path(entry.recipe).stem
    value = changes(entry).get(by)
    return f"{by} not set" if value is None else f"{by}={value}"


def _name(entry: Entry, by: str) -> str:
    """What tells a row from others of its group, or the recipe where nothing does."""
    rest = [f"{k}={v}" for k, v in changes(entry).items() if k != by]
    recipe = Path(entry.recipe).stem
    return " ".join(rest if by == RECIPE and rest else [recipe, *rest])


def numeric_key(rows: Sequence[RecipeRow]) -> str | None:
    """The key that takes the most different numbers over the rows, where it takes three or more."""
    values: dict[str, set[float]] = {}
    for row in rows:
        for key, word in changes(row.entry).items():
            number = number_of(word)
            if number is not None:
                values.setdefault(key, set()).add(number)
    best = max(values, key=lambda key: len(values[key]), default=None)
    return best if best is not None and len(values[best]) > 2 else None


def number_of(word: str) -> float | None:
    """The number that a setting is, if it is one."""
    try:
        return float(word)
    except ValueError:
        return None
