"""Lowering of reads at places that shapes alone say: diagonals and windows."""

from __future__ import annotations

import numpy as np

from ..ir import Value
from ..types import Shape
from .builder import Builder, CallLowering, result_shape, shape_of
from .gather import dim_of, take, take_grad
from .joint import Arg, Call
from .shape import permuted, viewed

Diagonal = tuple[tuple[int, ...], Value]


def _diagonal(b: Builder, call: Call, shape: Shape, args: tuple[Arg, ...]) -> Diagonal:
    """The order of the dimensions with those of a diagonal last, and the rows of it in these."""
    offset, one, two = args
    assert isinstance(offset, int)
    first, second = dim_of(one, shape), dim_of(two, shape)
    order = (*(d for d in range(len(shape)) if d not in (first, second)), first, second)
    matrix = np.arange(shape[first] * shape[second]).reshape(shape[first], shape[second])
    places = np.ascontiguousarray(matrix.diagonal(offset)).astype(np.int64)
    return order, b.fixed_value(call, places)


def diagonal(b: Builder, call: Call) -> None:
    """A diagonal of two dimensions, as the last one."""
    x = b.of(call.args[0])
    order, index = _diagonal(b, call, shape_of(x), call.args[1:4])
    moved = permuted(b, x, order)
    *left, rows, columns = shape_of(moved)
    flat = viewed(b, moved, (*left, rows * columns))
    b.bind(call, take(b, flat, index, len(left), wraps=False))


def diagonal_backward(b: Builder, call: Call) -> None:
    """Zeros but for a diagonal."""
    shape = result_shape(call)
    order, index = _diagonal(b, call, shape, call.args[2:5])
    *left, rows, columns = (shape[d] for d in order)
    flat = (*left, rows * columns)
    made = take_grad(b, b.of(call.args[0]), index, flat, len(left), wraps=False)
    moved = viewed(b, made, (*left, rows, columns))
    b.bind(call, permuted(b, moved, tuple(order.index(d) for d in range(len(shape)))))


def trace(b: Builder, call: Call) -> None:
    """The sum of the diagonal of a matrix."""
    x = b.of(call.args[0])
    _, index = _diagonal(b, call, shape_of(x), (0, 0, 1))
    made = take(b, viewed(b, x, (x.type.elements,)), index, 0, wraps=False)
    b.bind(call, b.one("sum", (made,), "trace", (), dims=(0,), keepdim=False))


def _windows(b: Builder, call: Call, length: int, size: Arg, step: Arg) -> Value:
    assert isinstance(size, int) and isinstance(step, int)
    starts = np.arange(0, length - size + 1, step)
    return b.fixed_value(call, (starts[:, None] + np.arange(size)).astype(np.int64))


def unfold(b: Builder, call: Call) -> None:
    """Windows along a dimension, which become the last one."""
    x = b.of(call.args[0])
    dim = dim_of(call.args[1], shape_of(x))
    index = _windows(b, call, shape_of(x)[dim], *call.args[2:4])
    made = take(b, x, index, dim, wraps=False)
    rank = len(shape_of(made))
    b.bind(call, permuted(b, made, (*(d for d in range(rank) if d != dim + 1), dim + 1)))


def unfold_backward(b: Builder, call: Call) -> None:
    """Sums of what windows share."""
    g, shape = b.of(call.args[0]), result_shape(call)
    dim = dim_of(call.args[2], shape)
    index = _windows(b, call, shape[dim], *call.args[3:5])
    rank = len(shape_of(g))
    order = (*range(dim + 1), rank - 1, *range(dim + 1, rank - 1))
    b.bind(call, take_grad(b, permuted(b, g, order), index, shape, dim, wraps=False))


PLACES: dict[str, CallLowering] = {
    "aten.diagonal.default": diagonal,
    "aten.diagonal_backward.default": diagonal_backward,
    "aten.trace.default": trace,
    "aten.unfold.default": unfold,
    "aten.unfold_backward.default": unfold_backward,
}
