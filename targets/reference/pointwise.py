"""Reference of the pointwise ops and of plain sums and broadcasts."""

from __future__ import annotations

from math import prod

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers, over_channels, per_channel, wide


def relu(op: Op, x: Array) -> Array:
    """NaN stays; minus zero becomes zero."""
    return np.where(x <= 0, np.float32(0), x)


def relu_grad(op: Op, g: Array, y: Array) -> Array:
    """``y`` is the result of the ReLU or a region mask."""
    return np.where(y > 0, g, np.float32(0))


def add(op: Op, a: Array, b: Array) -> Array:
    """a + b"""
    return a + b


def sub(op: Op, a: Array, b: Array) -> Array:
    """a - b"""
    return a - b


def mul(op: Op, a: Array, b: Array) -> Array:
    """a * b"""
    return a * b


def scale(op: Op, x: Array) -> Array:
    """The factor is rounded to f32 first."""
    return x * np.float32(op.float_attr("factor"))


def add_bias(op: Op, x: Array, b: Array) -> Array:
    """b per channel."""
    return x + per_channel(b, x.ndim)


def clamp_min(op: Op, x: Array) -> Array:
    """NaN stays."""
    low = np.float32(op.float_attr("low"))
    return np.where(x < low, low, x)


def constant(op: Op) -> Array:
    """One value everywhere."""
    return np.full(op.result.type.shape, op.float_attr("value"), np.float32)


def sum_channels(op: Op, g: Array) -> Array:
    """Over all but channels, in float64."""
    return np.asarray(wide(g).sum(axis=over_channels(g)))


def sum_(op: Op, x: Array) -> Array:
    """Over ``dims``, in float64."""
    return np.asarray(wide(x).sum(axis=op.ints_attr("dims"), keepdims=op.bool_attr("keepdim")))


def mean(op: Op, x: Array) -> Array:
    """The sum over the number of elements, in float64."""
    return np.asarray(sum_(op, x) / prod(x.shape[d] for d in op.ints_attr("dims")))


def max_(op: Op, x: Array) -> Array:
    """The largest over ``dims``; NaN wins."""
    return np.asarray(x.max(axis=op.ints_attr("dims"), keepdims=op.bool_attr("keepdim")))


def broadcast(op: Op, x: Array) -> Array:
    """``x`` has the dimensions ``dims`` with size 1 or lacks them."""
    shape, dims = op.result.type.shape, op.ints_attr("dims")
    full = tuple(1 if i in dims else n for i, n in enumerate(shape))
    return np.broadcast_to(x.reshape(full), shape)


POINTWISE: dict[str, Meaning] = {
    "relu": on_numbers(relu),
    "relu_grad": on_numbers(relu_grad),
    "add": on_numbers(add),
    "sub": on_numbers(sub),
    "mul": on_numbers(mul),
    "scale": on_numbers(scale),
    "add_bias": on_numbers(add_bias),
    "clamp_min": on_numbers(clamp_min),
    "constant": on_numbers(constant),
    "sum_channels": on_numbers(sum_channels),
    "sum": on_numbers(sum_),
    "mean": on_numbers(mean),
    "max": on_numbers(max_),
    "broadcast": on_numbers(broadcast),
}
