"""Normalization in ONNX: a factor and an offset for each channel, as the program computes them."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from .frame import Context, Lower


def batch_norm(c: Context, op: Op) -> str:
    """``x * a + b``; of constant statistics ``a`` and ``b`` are constants."""
    x, mean, var, gamma, beta = (c.real(v) for v in op.inputs)
    rank = len(op.result.type.shape)
    a = c.g.op("Div", gamma, _deviation(c, op, var))
    b = c.g.op("Sub", beta, c.g.op("Mul", mean, a))
    a, b = (c.channels(v, rank) for v in (a, b))
    return c.g.op("Add", c.g.op("Mul", x, a), b)


def _deviation(c: Context, op: Op, var: str) -> str:
    wide = c.g.op("Add", var, c.g.f32(op.float_attr("eps")))
    array = c.g.array(wide)
    return c.g.op("Sqrt", wide) if array is None else c.g.constant(np.sqrt(array))


def batch_stats(c: Context, op: Op) -> tuple[str | None, ...]:
    """Over all but channels."""
    x, rank = c.real(op.inputs[0]), len(op.inputs[0].type.shape)
    axes = c.g.ints(0, *range(2, rank))
    mean = c.g.op("ReduceMean", x, axes, keepdims=1)
    far = c.g.op("Sub", x, mean)
    var = c.g.op("ReduceMean", c.g.op("Mul", far, far), axes, keepdims=0)
    return c.shaped(mean, (-1,)), var


def log_softmax(c: Context, op: Op) -> str:
    """Over dimension 1."""
    return c.g.op("LogSoftmax", c.real(op.inputs[0]), axis=1)


NORM: dict[str, Lower] = {
    "batch_norm": batch_norm,
    "batch_stats": batch_stats,
    "log_softmax": log_softmax,
}
