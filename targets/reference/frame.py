"""What the reference functions of all families share: their type, and rounding of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array, Tensor

Meaning = Callable[[Op, Sequence[Tensor]], tuple[Tensor, ...]]
"""The meaning of an op kind: its results from its operands."""

OnNumbers = Callable[..., Array | tuple[Array, ...]]
"""A meaning in plain arrays: the op, then the stored numbers of each operand."""


def on_numbers(function: OnNumbers) -> Meaning:
    """Run ``function`` on stored numbers (f32 or integers); round its results to their formats."""

    def run(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        made = function(op, *(t.numbers for t in inputs))
        arrays = made if isinstance(made, tuple) else (made,)
        pairs = zip(op.results, arrays, strict=True)
        return tuple(Tensor.from_numbers(v.type, array) for v, array in pairs)

    return run


def per_channel(v: Array, rank: int) -> Array:
    """A vector shaped to act on dimension 1 of a tensor of ``rank`` dimensions."""
    return v.reshape(1, -1, *(1,) * (rank - 2))


def over_channels(x: Array) -> tuple[int, ...]:
    """All dimensions but 1, to reduce over."""
    return (0, *range(2, x.ndim))


def wide(x: Array) -> Array:
    """In float64, for sums whose order must not matter."""
    return x.astype(np.float64)
