"""Reference of shifted and squeezed numbers: their two constants, and the codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compiler.ir import Op
from .reference_frame import Run, on_numbers, wide
from .tensor import Array, Tensor, squeezed

LOG2E = 1 / np.log(2.0)
# log2 of the largest stored number, and what counts as a difference from the mean at all.
TARGET, LEAST_SPREAD = 15.0, 2.0**-20


def squeeze_stats(op: Op, x: Array) -> tuple[Array, Array]:
    """In float64; NaN where any number is."""
    size = np.abs(wide(x))
    size = size[size != 0]
    if not size.size:
        return np.asarray(1.0), np.asarray(0.0)
    middle = np.log(size).mean() * LOG2E
    spread = np.log(size.max()) * LOG2E - middle
    if spread < LEAST_SPREAD:
        center = op.word_attr("degenerate") == "center"
        return np.asarray(1.0), np.asarray(-middle if center else 0.0)
    alpha = np.float32(TARGET / spread)
    return np.asarray(alpha), np.asarray(-(np.float64(alpha) * middle))


def squeeze(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Through f32 to nearest even."""
    x, alpha, beta = (t.numbers for t in inputs)
    stored = squeezed(x, alpha, beta).astype(np.float32)
    return (Tensor.from_numbers(op.result.type, stored, np.stack([alpha, beta])),)


SQUEEZE: dict[str, Run] = {"squeeze_stats": on_numbers(squeeze_stats), "squeeze": squeeze}
