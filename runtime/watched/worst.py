"""The tensors that suffer most at the last look: by SQNR, underflow, clips, distance from f32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from .row import WatchRow

FEW = 4
ALIKE, NONE = 0.99995, 0.0005  # from there on a table would say 1.000, or 0.0 %
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
        found[why] = [row for _, row in sorted(ranked, key=lambda pair: pair[0])[:FEW]]
    return {why: some for why, some in found.items() if some}
