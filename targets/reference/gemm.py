"""Reference of the GEMMs: convolution and linear, forward, data gradient and weight gradient.

    (sum of products of stored numbers) * (scale of one * scale of the other), rounded once

Codes of integer and logarithmic formats are integers in units of their smallest level; their sums
are exact. With a float operand (a carrier or FP8) products are exact and the sum is in float64.
Then one rounding to f32, the product with the scale in f32, and the rounding to the result.
A scale per channel of a dimension that is summed over belongs to the numbers, in float64; numbers
whose scale is no factor are dequantized first. With an accumulator the sum is that of
``chunked``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isinf, prod

import numpy as np

from ...compiler.ir import Op
from ...compiler.ir.accumulation import accumulation
from ...compiler.ir.analysis import direction
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS, TRANSPOSED, WEIGHT_GRADS
from ...compiler.types import Scale
from ..numbers.tensor import Array, Tensor, column
from .chunked import chunked
from .frame import Meaning, on_numbers, wide
from .window import Window, grouped, ungrouped

# The dimension of the result that is dimension 0 of each operand; None where it is summed over.
KEPT: dict[str, tuple[int | None, int | None]] = {
    "forward": (0, 1),
    "dX": (0, None),
    "dW": (None, None),
}


@dataclass(frozen=True, slots=True)
class Multiplicand:
    """Numbers to multiply, a bound of their magnitude (infinite for floats), factor of the sum."""

    numbers: Array
    top: float
    factor: Array

    @classmethod
    def of(cls, t: Tensor, kept: int | None, rank: int, *, levels: bool = False) -> Multiplicand:
        """From a tensor whose dimension 0 is dimension ``kept`` of a result of ``rank``.

        ``levels`` asks for stored numbers, not for integers in units of their smallest level.
        """
        f = t.type.format
        if not t.type.scale.is_factor:
            return cls(t.dequantized(), inf, np.ones((), np.float32))
        exact = f.is_coded and (f.is_integer or f.is_log) and not levels
        unit = f.smallest if exact else 1.0
        numbers, top = t.numbers, inf
        if exact:
            numbers, top = numbers / np.float32(unit), f.max / unit
        one = np.ones((), np.float32)
        factor = np.asarray(np.float32(unit) * (one if t.scale is None else t.scale))
        if t.type.scale is not Scale.CHANNEL:
            return cls(numbers, top, factor)
        if kept is None:
            real = numbers * column(factor, numbers.ndim).astype(np.float64)
            return cls(real, inf, one)
        return cls(numbers, top, factor.reshape(-1, *(1,) * (rank - 1 - kept)))


Multiply = Callable[[Op, Array, Array], Array]


def _gemm(product: Multiply) -> Meaning:
    def run(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        type_ = op.result.type
        rank, kept = len(type_.shape), _kept(op.kind)
        how, pairs = accumulation(op), zip(inputs, kept, strict=True)
        a, b = (Multiplicand.of(t, k, rank, levels=how is not None) for t, k in pairs)
        if how is not None:
            total = chunked(op, _walk(op.kind), (a.numbers, b.numbers), how)
        else:
            dtype = _accumulator(a.top * b.top * _length(op))
            numbers = (side.numbers.astype(dtype, copy=False) for side in (a, b))
            total = product(op, *numbers)
        # Adding zero turns the minus zero of an empty or cancelled float sum into an integer's.
        y = (total.astype(np.float32) + np.float32(0)) * (a.factor * b.factor)
        return (Tensor.from_numbers(type_, y),)

    return run


def _kept(kind: str) -> tuple[int | None, int | None]:
    """See ``KEPT``; of products of matrices dimension 0 is the batch."""
    return (0, 0) if kind in BETWEEN_ACTIVATIONS else KEPT[_walk(kind)]


def _accumulator(bound: float) -> type[np.float32 | np.float64 | np.int64]:
    """The fastest type in which sums of magnitude ``bound`` are exact; float64 for floats."""
    if bound < 1 << 24:
        return np.float32
    return np.float64 if isinf(bound) or bound < 1 << 53 else np.int64


def _walk(kind: str) -> str:
    """Which way a product goes through the weights; a transposed convolution goes backwards."""
    role = direction(kind)
    if kind not in TRANSPOSED:
        return role
    return {"forward": "dX", "dX": "forward"}.get(role, role)


def _length(op: Op) -> int:
    """Number of products in one sum, at most."""
    first, second = (v.type.shape for v in op.inputs)
    if op.kind in BETWEEN_ACTIVATIONS:
        return first[1] if op.kind in WEIGHT_GRADS else first[2]
    match _walk(op.kind):
        case "forward":
            return prod(second[1:])
        case "dX":
            return second[0] * prod(second[2:])
        case _:
            return first[0] * prod(first[2:])


def _matrices(w: Array, groups: int) -> list[Array]:
    """The weight (G K) x C x R x S as one G x K x C for each tap, row by row."""
    k, c, r, s = w.shape
    taps = w.reshape(groups, k // groups, c, r * s)
    return [np.ascontiguousarray(taps[..., i]) for i in range(r * s)]


def _flat(x: Array) -> Array:
    """G x C x N x H x W as G x C x (N H W)."""
    return x.reshape(*x.shape[:2], -1)


def conv2d(op: Op, x: Array, w: Array) -> Array:
    """Cross-correlation, a sum over the taps of products of matrices."""
    groups = op.int_attr("groups")
    window = Window.of(op, x.shape, op.result.type.shape, w.shape)
    n, places = x.shape[0], window.places
    y = np.zeros((groups, w.shape[0] // groups, n * places[0] * places[1]), x.dtype)
    whole = window.border(grouped(x, groups))
    for matrix, seen in zip(_matrices(w, groups), window.taps(whole), strict=True):
        y += matrix @ _flat(seen)
    return ungrouped(y.reshape(*y.shape[:2], n, *places))


def conv2d_input_grad(op: Op, g: Array, w: Array) -> Array:
    """Each tap adds what it sent back to the places that it saw."""
    groups, shape = op.int_attr("groups"), op.result.type.shape
    window = Window.of(op, shape, g.shape, w.shape)
    flat = _flat(grouped(g, groups))
    whole = np.zeros((groups, w.shape[1], g.shape[0], *window.extent), g.dtype)
    for matrix, seen in zip(_matrices(w, groups), window.taps(whole), strict=True):
        seen += (matrix.transpose(0, 2, 1) @ flat).reshape(seen.shape)
    return ungrouped(window.inside(whole))


def conv2d_weight_grad(op: Op, g: Array, x: Array) -> Array:
    """For each tap the products of the gradient with what the tap saw."""
    groups, shape = op.int_attr("groups"), op.result.type.shape
    window = Window.of(op, x.shape, g.shape, shape)
    whole = window.border(grouped(x, groups))
    flat = _flat(grouped(g, groups))
    taps = [flat @ _flat(seen).transpose(0, 2, 1) for seen in window.taps(whole)]
    return np.stack(taps, axis=-1).reshape(shape)


def conv2d_transpose(op: Op, x: Array, w: Array) -> Array:
    """What dX of a convolution computes."""
    return conv2d_input_grad(op, x, w)


def conv2d_transpose_input_grad(op: Op, g: Array, w: Array) -> Array:
    """A convolution."""
    return conv2d(op, g, w)


def conv2d_transpose_weight_grad(op: Op, g: Array, x: Array) -> Array:
    """dW with its operands exchanged."""
    return conv2d_weight_grad(op, x, g)


def linear(op: Op, x: Array, w: Array) -> Array:
    """``x w^T``"""
    return x @ w.T


def linear_input_grad(op: Op, g: Array, w: Array) -> Array:
    """``g w``"""
    return g @ w


def linear_weight_grad(op: Op, g: Array, x: Array) -> Array:
    """``g^T x``"""
    return g.T @ x


def product(op: Op, a: Array, b: Array) -> Array:
    """``a b``"""
    return np.asarray(a @ b)


def product_input_grad(op: Op, g: Array, b: Array) -> Array:
    """``g b^T``"""
    return np.asarray(g @ b.swapaxes(1, 2))


def product_weight_grad(op: Op, g: Array, a: Array) -> Array:
    """``a^T g``"""
    return np.asarray(a.swapaxes(1, 2) @ g)


def matmul(op: Op, a: Array, b: Array) -> Array:
    """Of each matrix of a batch, in float64."""
    return product(op, wide(a), wide(b))


PRODUCTS: tuple[Multiply, ...] = (
    conv2d,
    conv2d_input_grad,
    conv2d_weight_grad,
    conv2d_transpose,
    conv2d_transpose_input_grad,
    conv2d_transpose_weight_grad,
    linear,
    linear_input_grad,
    linear_weight_grad,
    product,
    product_input_grad,
    product_weight_grad,
)
GEMM: dict[str, Meaning] = {
    **{p.__name__: _gemm(p) for p in PRODUCTS},
    "matmul": on_numbers(matmul),
}
