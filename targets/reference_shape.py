"""Reference of the ops that move elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compiler.ir import Op
from ..compiler.types import Shape
from .reference_frame import Run, on_numbers
from .tensor import Array, Tensor


def view(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Codes and scale stay."""
    (x,) = inputs
    return (Tensor(op.result.type, x.data.reshape(op.result.type.shape), x.scale),)


def permute(op: Op, x: Array) -> Array:
    """Dimension i of the result is dimension ``dims[i]`` of x."""
    return x.transpose(op.ints_attr("dims"))


def cat(op: Op, *parts: Array) -> Array:
    """One after another along ``dim``."""
    return np.concatenate(parts, axis=op.int_attr("dim"))


def slice_(op: Op, x: Array) -> Array:
    """The length is that of the result."""
    return x[_index(op, op.result.type.shape)]


def slice_grad(op: Op, g: Array) -> Array:
    """Zeros but for the slice."""
    dx = np.zeros(op.result.type.shape, np.float32)
    dx[_index(op, g.shape)] = g
    return dx


def _index(op: Op, part: Shape) -> tuple[slice, ...]:
    dim, start, step = (op.int_attr(k) for k in ("dim", "start", "step"))
    along = slice(start, start + (part[dim] - 1) * step + 1, step)
    return (*(slice(None),) * dim, along)


def pad(op: Op, x: Array) -> Array:
    """Behind each dimension stands what the result has room for."""
    y = np.full(op.result.type.shape, op.float_attr("value"), np.float32)
    y[tuple(slice(b, b + n) for b, n in zip(op.ints_attr("before"), x.shape, strict=True))] = x
    return y


SHAPE: dict[str, Run] = {
    "view": view,
    "permute": on_numbers(permute),
    "cat": on_numbers(cat),
    "slice": on_numbers(slice_),
    "slice_grad": on_numbers(slice_grad),
    "pad": on_numbers(pad),
}
