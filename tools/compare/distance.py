"""How far two tensors are from each other: by their real numbers, and by their codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...targets.numbers.tensor import Tensor

Reals = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Gap:
    """What two tensors of one shape differ by; ``equal`` where in no number and no code.

    ``largest`` is the largest difference, ``relative`` that over the largest number of the first
    one, ``sqnr`` in dB the power of the first over that of the difference, ``cosine`` that of the
    angle between them. ``codes`` is the share of codes, or of integers, that differ: None where
    the two are of different formats, or floats. What no number can say is None: the SQNR of equal
    tensors, the cosine with zeros, anything of NaN or infinity on one side alone.
    """

    equal: bool
    largest: float | None
    relative: float | None
    sqnr: float | None
    cosine: float | None
    codes: float | None

    def within(self, tolerance: float) -> bool:
        """Whether they agree: in all numbers, or but for ``tolerance`` of the largest."""
        if self.equal or not tolerance:
            return self.equal
        return self.relative is not None and self.relative <= tolerance


def distance(a: Tensor, b: Tensor) -> Gap:
    """How far ``b`` is from ``a``, which has its shape."""
    codes = _codes(a, b)
    if _same_bits(a, b):
        return Gap(True, 0.0, 0.0, None, _cosine(a.real(), a.real()), codes)
    x, y = a.real(), b.real()
    with np.errstate(all="ignore"):
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        gap = np.where(same, 0.0, np.abs(x - y))
        if same.all() and not codes:
            return Gap(True, 0.0, 0.0, None, _cosine(x, x), codes)
        if not np.isfinite(gap).all():
            return Gap(False, None, None, None, None, codes)
        finite = np.isfinite(x)
        top = float(np.abs(x[finite]).max(initial=0.0))
        signal, noise = float((x[finite] ** 2).sum()), float((gap**2).sum())
    largest = float(gap.max())
    sqnr = 10 * float(np.log10(signal / noise)) if signal and noise else None
    relative = largest / top if top else None
    return Gap(False, largest, relative, sqnr, _cosine(x, y), codes)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.type != b.type or a.data.tobytes() != b.data.tobytes():
        return False
    return (a.scale is None) == (b.scale is None) and (
        a.scale is None or b.scale is None or a.scale.tobytes() == b.scale.tobytes()
    )


def _codes(a: Tensor, b: Tensor) -> float | None:
    """The share of codes that differ, also where only the scales do not."""
    f = a.type.format
    if f != b.type.format or not (f.is_coded or f.is_index) or not a.data.size:
        return None
    return float(np.mean(a.data != b.data))


def _cosine(x: Reals, y: Reals) -> float | None:
    with np.errstate(all="ignore"):
        sizes = float(np.sqrt((x**2).sum()) * np.sqrt((y**2).sum()))
        found = float((x * y).sum()) / sizes if sizes else np.nan
    return max(-1.0, min(1.0, float(found))) if np.isfinite(found) else None
