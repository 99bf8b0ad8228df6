"""Rows as a watcher would give of the network of ``page_case``: counted out, none measured."""

from __future__ import annotations

from dataclasses import replace

from quatrain.passes.parts.watch_points import WatchPoint, watch_points
from quatrain.runtime.page.source import PageSource
from quatrain.runtime.watched.row import Exponents, WatchRow

STEPS = (0, 50, 100)


def watched_rows(source: PageSource, steps: tuple[int, ...] = STEPS) -> list[WatchRow]:
    """All points at each step; beside f32 at the first alone."""
    points = watch_points(source.stages[-1][1])
    return [_row(step, i, point, steps[0]) for step in steps for i, point in enumerate(points)]


def _row(step: int, place: int, point: WatchPoint, beside: int) -> WatchRow:
    before = Exponents(-3 - place, (10, 50, 30), zero=10)
    row = WatchRow(
        step=step,
        name=point.name,
        layer=point.layer,
        role=point.role,
        of=point.of,
        value=point.before.name,
        format=point.before.type.short,
        quantized=point.after.type.short if point.after else None,
        elements=100,
        largest=2.0**-place,
        mean=0.0,
        rms=2.0 ** (-1 - place),
        before=before,
    )
    if point.after is not None:
        after = Exponents(-2 - place, (50, 30), zero=20)
        row = replace(row, after=after, sqnr=20.0 - place - step / 50, underflow=0.1, gain=0.9)
    if step == beside:
        row = replace(row, cosine=1 - 0.01 * place, error=0.1, fp32_gain=1.0)
    return row
