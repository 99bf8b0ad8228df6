"""Which tensors are in trouble at the last look, and in what respect: what a reader asks first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..report.tables import percent
from ..watched.row import WatchRow
from ..watched.worst import worst

NOT_FINITE = "NaN or infinite"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A respect, the step of the look, and the worst tensors with what their number is."""

    what: str
    step: int
    tensors: tuple[tuple[WatchRow, str], ...]


def in_trouble(rows: Sequence[WatchRow]) -> tuple[Trouble, ...]:
    """The respects in which a tensor suffers, the gravest first."""
    last = [row for row in rows if row.step == rows[-1].step]
    broken = [row for row in last if row.before.infinite + row.before.nan]
    found = {NOT_FINITE: broken} if broken else {}
    found |= worst(rows)
    return tuple(
        Trouble(what, some[0].step, tuple((row, _number(what, row)) for row in some))
        for what, some in found.items()
    )


def _number(what: str, row: WatchRow) -> str:
    if what == NOT_FINITE:
        return percent((row.before.infinite + row.before.nan) / (row.elements or 1))
    if what == "lowest SQNR":
        return f"{row.sqnr:.1f} dB"
    if what == "most underflow":
        return f"{percent(row.underflow or 0)} became 0"
    if what == "most clipped":
        return percent(row.saturation or 0)
    return f"cosine {row.cosine:.3f}"
