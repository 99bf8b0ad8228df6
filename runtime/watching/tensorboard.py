"""Rows as TensorBoard shows them: a curve for each number, a histogram for each distribution.

Tags are ``ROLE/LAYER/NUMBER``, so that a page has all layers of a role. Histograms are over the
exponent of two: what is 0 stands at the left end, below all that is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from ..watched.row import Exponents, WatchRow

CURVES = (
    *("largest", "rms", "underflow", "saturation", "sqnr", "gain", "clip", "scale"),
    *("cosine", "error", "fp32_gain", "changed", "oscillation"),
)


class BoardWriter:
    """Event files in a folder; ``done`` is the first step that may come."""

    def __init__(self, folder: Path, done: int) -> None:
        # What a run of before wrote of these steps is hidden.
        self._writer = SummaryWriter(str(folder), purge_step=done)

    def add(self, rows: Sequence[WatchRow]) -> None:
        """All that rows say, on disk when it returns."""
        for row in rows:
            tag = "/".join(part for part in (row.role, row.layer, row.of) if part)
            for name in CURVES:
                number = getattr(row, name)
                if number is not None and math.isfinite(number):
                    self._writer.add_scalar(f"{tag}/{name}", number, row.step)
            for name, bins in (("before", row.before), ("after", row.after)):
                if bins is not None and (bins.counts or bins.zero):
                    self._histogram(f"{tag}/exponents_{name}", bins, row.step)
        self._writer.flush()

    def _histogram(self, tag: str, bins: Exponents, step: int) -> None:
        """Bars from each exponent to the next; zeros have the place below."""
        places = [bins.first - 1 + i for i in range(len(bins.counts) + 1)]
        counts = [bins.zero, *bins.counts]
        self._writer.add_histogram_raw(
            tag,
            min=places[0],
            max=places[-1] + 1,
            num=sum(counts),
            sum=sum(p * n for p, n in zip(places, counts, strict=True)),
            sum_squares=sum(p * p * n for p, n in zip(places, counts, strict=True)),
            bucket_limits=[p + 1 for p in places],
            bucket_counts=counts,
            global_step=step,
        )

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
