"""Reference of what is measured of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.ir import Op
from ...compiler.ir.ops.measure import BINS
from ..numbers.tensor import Array, Tensor
from .frame import Meaning, on_numbers, wide

INFINITY = np.uint32(0x7F800000)


def exponents(op: Op, x: Array) -> Array:
    """By the bits of |x|: its exponent field, one more unless it is 0, another one for NaN."""
    size = np.ascontiguousarray(np.abs(x), np.float32).reshape(-1).view(np.uint32)
    place = (size >> 23).astype(np.int64) + (size != 0) + (size > INFINITY)
    return np.bincount(place, minlength=BINS)


def dots(op: Op, x: Array, y: Array) -> tuple[Array, ...]:
    """In f64."""
    a, b = wide(x), wide(y)
    return tuple(np.asarray((p * q).sum()) for p, q in ((a, a), (a, b), (b, b), (a - b, a - b)))


def stored_numbers(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Without their scale."""
    return (Tensor.from_numbers(op.result.type, inputs[0].numbers),)


MEASURE: dict[str, Meaning] = {
    "exponents": on_numbers(exponents),
    "dots": on_numbers(dots),
    "stored_numbers": stored_numbers,
}
