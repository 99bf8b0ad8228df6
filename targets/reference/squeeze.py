"""Reference of shifted and squeezed numbers: their two constants, and the codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.ir import Op
from ..numbers.powers import LEAST, log2
from ..numbers.tensor import Array, Tensor, squeezed
from .frame import Meaning, on_numbers, wide

# log2 of the largest stored number, and what counts as a difference from the mean at all.
TARGET, LEAST_SPREAD = 15.0, 2.0**-20


def squeeze_stats(op: Op, x: Array) -> tuple[Array, Array]:
    """Logarithms in f32, their mean in float64; NaN where any number is not finite."""
    size = np.abs(x.astype(np.float32))
    size = size[~(size < np.float32(LEAST))]
    if not size.size:
        return np.asarray(1.0), np.asarray(0.0)
    middle = wide(log2(size)).mean()
    spread = float(log2(size.max())) - middle
    if spread < LEAST_SPREAD:
        center = op.word_attr("degenerate") == "center"
        return np.asarray(1.0), np.asarray(-middle if center else 0.0)
    alpha = np.float32(TARGET / spread)
    return np.asarray(alpha), np.asarray(-(np.float64(alpha) * middle))


def squeeze(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """To nearest even."""
    x, alpha, beta = (t.numbers for t in inputs)
    stored = squeezed(x, alpha, beta)
    return (Tensor.from_numbers(op.result.type, stored, np.stack([alpha, beta])),)


SQUEEZE: dict[str, Meaning] = {"squeeze_stats": on_numbers(squeeze_stats), "squeeze": squeeze}
