"""What was watched as a page draws it: tensors, and their numbers and exponents at each look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..watched.row import Exponents, WatchRow
from .shades import stored_shade

# Numbers of a row that have a curve.
CURVES = (
    *("sqnr", "underflow", "saturation", "gain", "cosine", "error", "fp32_gain"),
    *("scale", "clip", "largest", "rms", "mean", "changed", "oscillation"),
)
# A page of more rows would be too large to send around: about 60 bytes each.
MOST_ROWS = 40_000
DIGITS = 4
THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class WatchedTensor:
    """A tensor; ``rows`` are those of the looks of its run, None where one did not have it."""

    name: str
    layer: str
    role: str
    of: str
    format: str
    quantized: str | None
    elements: int
    rows: tuple[WatchRow | None, ...]

    def last(self, field: str) -> tuple[int, float] | None:
        """Step and value of the last look that has a number; None where none has."""
        for row in reversed(self.rows):
            if row is not None and (value := getattr(row, field)) is not None:
                return row.step, float(value)
        return None


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """Tensors in the order of the network; ``steps`` are the looks drawn, of ``looks`` in all."""

    steps: tuple[int, ...]
    looks: int
    tensors: tuple[WatchedTensor, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that there are."""
        return tuple(dict.fromkeys(t.role for t in self.tensors))


def watched_run(
    rows: Sequence[WatchRow], layers: Sequence[str], most: int = MOST_ROWS
) -> WatchedRun:
    """The rows by tensor, in the order of ``layers``; of too many looks some are left out."""
    by_name: dict[str, dict[int, WatchRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, {})[row.step] = row
    steps = tuple(sorted({row.step for row in rows}))
    beside = sorted({row.step for row in rows if row.cosine is not None})
    kept = _thinned(steps, beside, max(2, most // len(by_name)))
    places = {layer: i for i, layer in enumerate(layers)}
    tensors = sorted(
        (_tensor(found, kept) for found in by_name.values()),
        key=lambda t: places.get(t.layer, len(places)),
    )
    return WatchedRun(kept, len(steps), tuple(tensors))


def _thinned(steps: Sequence[int], beside: Sequence[int], most: int) -> tuple[int, ...]:
    """At most ``most`` steps, evenly: half of them those beside f32, the first and the last."""
    if len(steps) <= most:
        return tuple(steps)
    first = _evenly(beside, max(1, most // 2))
    rest = [step for step in steps if step not in first]
    return tuple(sorted({*first, *_evenly(rest, most - len(first))}))


def _evenly(steps: Sequence[int], most: int) -> tuple[int, ...]:
    """``most`` of them from the last back; the first too where there is room for two."""
    if len(steps) <= most:
        return tuple(steps)
    apart = (len(steps) - 1) / max(most - 1, 1)
    return tuple(steps[len(steps) - 1 - round(i * apart)] for i in range(most))


def _tensor(found: dict[int, WatchRow], steps: Sequence[int]) -> WatchedTensor:
    last = found[max(found)]
    head = last.name, last.layer, last.role, last.of, last.format, last.quantized, last.elements
    return WatchedTensor(*head, tuple(found.get(step) for step in steps))


def run_data(run: WatchedRun) -> dict[str, object]:
    """The whole as plain data."""
    return {"steps": run.steps, "tensors": list(map(_tensor_data, run.tensors))}


def _tensor_data(t: WatchedTensor) -> dict[str, object]:
    curves = {name: [_number(row, name) for row in t.rows] for name in CURVES}
    spread = {
        name: [_shares(getattr(row, name) if row else None) for row in t.rows]
        for name in ("before", "after")
    }
    return {
        "name": t.name,
        "layer": t.layer,
        "role": t.role,
        "of": t.of,
        "format": t.format,
        "quantized": t.quantized,
        "shade": stored_shade(t.quantized or t.format),
        "elements": t.elements,
        "curves": {name: c for name, c in curves.items() if any(x is not None for x in c)},
    } | {name: some for name, some in spread.items() if any(some)}


def _number(row: WatchRow | None, name: str) -> float | None:
    """A few digits of a number; None where there is none, or no finite one."""
    value = getattr(row, name) if row is not None else None
    return float(f"{value:.{DIGITS}g}") if value is not None and math.isfinite(value) else None


def _shares(bins: Exponents | None) -> list[int] | None:
    """In thousandths: the first exponent, the shares of 0 and of what has none, of each exponent.

    What there is at all is at least one thousandth.
    """
    if bins is None:
        return None
    rest = bins.subnormal + bins.infinite + bins.nan
    counts = (bins.zero, rest, *bins.counts)
    total = bins.total or 1
    return [bins.first, *(max(round(THOUSAND * n / total), n > 0) for n in counts)]
