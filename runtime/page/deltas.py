"""Programs after every pass as one text and what each pass did to its lines.

Lines repeat from stage to stage, so each stands once in a table; the first stage is a list of
places in it, and every other the edits of the one before.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.ir import Program
from ...compiler.ir.text import show

HISTORY = "after "


@dataclass(frozen=True, slots=True)
class LineEdit:
    """From line ``start`` of the old text on ``removed`` lines become ``added``, by place."""

    start: int
    removed: int
    added: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StageDelta:
    """A stage as edits of the one before; ``plus`` and ``minus`` leave the line ``after`` out."""

    name: str
    edits: tuple[LineEdit, ...]
    plus: int
    minus: int

    @property
    def changed(self) -> bool:
        """Whether it did anything beside writing its name down."""
        return self.plus + self.minus > 0


@dataclass(frozen=True, slots=True)
class Deltas:
    """All stages: distinct lines, the first stage's name and lines, and the edits of the others."""

    lines: tuple[str, ...]
    name: str
    first: tuple[int, ...]
    others: tuple[StageDelta, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        edits = [[[e.start, e.removed, list(e.added)] for e in d.edits] for d in self.others]
        return {"lines": "\n".join(self.lines), "first": list(self.first), "edits": edits}


def deltas(stages: Sequence[tuple[str, Program]]) -> Deltas:
    """What each stage changed in the text of the one before."""
    places: dict[str, int] = {}
    texts = [
        [places.setdefault(line, len(places)) for line in show(program).splitlines()]
        for _, program in stages
    ]
    history = {place for line, place in places.items() if line.startswith(HISTORY)}
    others = tuple(
        _delta(name, old, new, history)
        for (name, _), old, new in zip(stages[1:], texts, texts[1:], strict=False)
    )
    return Deltas(tuple(places), stages[0][0], tuple(texts[0]), others)


def _delta(name: str, old: list[int], new: list[int], history: set[int]) -> StageDelta:
    # Lines that stand everywhere, such as empty ones, would join what does not belong together.
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    edits = tuple(
        LineEdit(a, b - a, tuple(new[c:d]))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    )
    plus = sum(place not in history for e in edits for place in e.added)
    gone = (place for e in edits for place in old[e.start : e.start + e.removed])
    return StageDelta(name, edits, plus, sum(place not in history for place in gone))
