"""The tensors that suffer most as a table: little signal over noise, underflow, far from f32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from ..runtime.report.tables import percent, table
from ..runtime.watching.row import WatchRow

SHOWN = 4
ALIKE, NONE = 0.99995, 0.0005  # from there on the table would say 1.000, or 0.0 %
FAR = "far from f32"


def _most(share: float | None) -> float | None:
    """A rank by which the largest share comes first."""
    return -share if share is not None and share > NONE else None


# By which number, with its words; the smallest comes first.
RANKS: Mapping[str, Callable[[WatchRow], float | None]] = {
    "lowest SQNR": lambda row: row.sqnr,
    "most underflow": lambda row: _most(row.underflow),
    "most clipped": lambda row: _most(row.saturation),
    FAR: lambda row: row.cosine if (row.cosine or 0) < ALIKE else None,
}


def worst(rows: Sequence[WatchRow]) -> dict[str, list[WatchRow]]:
    """Of the last look, or the last beside f32, the few worst tensors in each respect."""
    found = {}
    for why, rank in RANKS.items():
        known = [row for row in rows if why != FAR or row.cosine is not None]
        last = [row for row in known if row.step == known[-1].step]
        ranked = [(at, row) for row in last if (at := rank(row)) is not None and math.isfinite(at)]
        found[why] = [row for _, row in sorted(ranked, key=lambda pair: pair[0])[:SHOWN]]
    return {why: some for why, some in found.items() if some}


def watch_table(rows: Sequence[WatchRow]) -> Table:
    """The worst ones with all their numbers."""
    steps, names = {row.step for row in rows}, {row.name for row in rows}
    looks = f"{len(steps)} look{'s' if len(steps) > 1 else ''} at {len(names)} tensors"
    numbers = ("SQNR dB", "to 0", "clipped", "cos f32")
    made = table(f"Watched, step {rows[-1].step} ({looks})", "tensor", *numbers, right=numbers)
    for why, some in worst(rows).items():
        at = "" if some[0].step == rows[-1].step else f", step {some[0].step}"
        made.add_row(Text(f"{why}{at}", style="bold"))
        for row in some:
            made.add_row(f" {_named(row)}", *_numbers(row), end_section=row is some[-1])
    return made


def _named(row: WatchRow) -> str:
    return f"{row.name} {row.quantized or row.format}"


def _numbers(row: WatchRow) -> tuple[str, ...]:
    return (
        "" if row.sqnr is None else f"{row.sqnr:.1f}",
        "" if row.underflow is None else percent(row.underflow),
        "" if row.saturation is None else percent(row.saturation),
        "" if row.cosine is None else f"{row.cosine:.3f}",
    )
