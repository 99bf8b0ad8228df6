"""One tensor in one step as a row: what its numbers say of how it was rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...compiler.ir.ops.measure import BINS
from ...passes.parts.watch_points import WatchPoint

# Where the bin of 2^0 stands: behind those of 0, of subnormal numbers and of -126 .. -1.
ONE = 128
PointNumbers = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Exponents:
    """How many numbers have each exponent: ``counts[i]`` those from 2^(first + i) to twice that.

    Those that have none are counted apart; subnormal is what is below 2^-126.
    """

    first: int
    counts: tuple[int, ...]
    zero: int = 0
    subnormal: int = 0
    infinite: int = 0
    nan: int = 0

    @classmethod
    def of(cls, bins: np.ndarray) -> Exponents:
        """Of the result of the op ``exponents``."""
        normal = bins[2 : BINS - 2]
        (used,) = np.nonzero(normal)
        first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (ONE - 2, ONE - 2)
        counts = tuple(int(n) for n in normal[first:end])
        zero, subnormal, infinite, nan = (int(bins[i]) for i in (0, 1, BINS - 2, BINS - 1))
        return cls(first + 2 - ONE, counts, zero, subnormal, infinite, nan)

    @property
    def total(self) -> int:
        """All numbers."""
        return sum((*self.counts, self.zero, self.subnormal, self.infinite, self.nan))


@dataclass(frozen=True, slots=True)
class WatchRow:
    """A tensor in the step that came after ``step`` others; None where there is nothing to say.

    ``largest``, ``mean`` and ``rms`` are of the tensor ahead of the quantizer. ``underflow`` is the
    share of numbers other than 0 that became 0, ``saturation`` that of numbers beyond the format's
    ends. ``sqnr`` is in dB; ``gain`` the part of the tensor that is left in its own direction, 1 of
    a rounding without bias. ``cosine``, ``error`` (relative) and ``fp32_gain`` compare with the
    same tensor in a step in f32 throughout, from the same state. ``changed`` is the share of codes
    of a weight that differ from the last watched step, ``oscillation`` of those that went back.
    """

    step: int
    name: str
    layer: str
    role: str
    of: str
    value: str
    format: str
    quantized: str | None
    elements: int
    largest: float
    mean: float
    rms: float
    before: Exponents
    after: Exponents | None = None
    underflow: float | None = None
    saturation: float | None = None
    sqnr: float | None = None
    gain: float | None = None
    clip: float | None = None
    scale: float | None = None
    cosine: float | None = None
    error: float | None = None
    fp32_gain: float | None = None
    changed: float | None = None
    oscillation: float | None = None


def row_of(
    step: int, point: WatchPoint, numbers: PointNumbers, moved: tuple[float, float] | None
) -> WatchRow:
    """The row of a point; ``numbers`` by statistic, ``moved`` are ``changed``, ``oscillation``."""
    single = {k: float(v) for k, v in numbers.items() if v.ndim == 0}
    before = Exponents.of(numbers["exponents"])
    after = Exponents.of(numbers["codes"]) if "codes" in numbers else None
    changed, back = moved or (None, None)
    return WatchRow(
        step=step,
        name=point.name,
        layer=point.layer,
        role=point.role,
        of=point.of,
        value=point.before.name,
        format=point.before.type.short,
        quantized=point.after.type.short if point.after else None,
        elements=before.total,
        largest=single["largest"],
        mean=single["mean"],
        rms=math.sqrt(single["xx"] / before.total),
        before=before,
        after=after,
        underflow=_underflow(point, before, after),
        saturation=single.get("saturated"),
        sqnr=_sqnr(single),
        gain=_over(single.get("xq"), single["xx"]),
        clip=single.get("clip"),
        scale=single.get("scale"),
        cosine=_cosine(single),
        error=_root(_over(single.get("away"), single.get("ff"))),
        fp32_gain=_over(single.get("xf"), single.get("ff")),
        changed=changed,
        oscillation=back,
    )


def _underflow(point: WatchPoint, before: Exponents, after: Exponents | None) -> float | None:
    """None for formats in which 0 is no code, or another number's."""
    if point.after is None or after is None:
        return None
    q = point.after.type
    if q.format.midrise or q.scale.is_affine:
        return None
    numbers = before.total - before.zero
    return max(after.zero - before.zero, 0) / numbers if numbers else 0.0


def _sqnr(single: Mapping[str, float]) -> float | None:
    if "error" not in single or not single["xx"] > 0:
        return None
    noise = single["error"] / single["xx"]
    return math.inf if noise == 0 else -10 * math.log10(noise) if math.isfinite(noise) else math.nan


def _cosine(single: Mapping[str, float]) -> float | None:
    if "xf" not in single:
        return None
    size = math.sqrt(single["xx"]) * math.sqrt(single["ff"])
    return single["xf"] / size if size > 0 else None


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b is not None and b > 0 else None


def _root(x: float | None) -> float | None:
    return None if x is None else math.sqrt(x)
