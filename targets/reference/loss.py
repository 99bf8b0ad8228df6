"""Reference of the losses: sums, logarithms and exponentials in float64, rounded to f32."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers, wide


def log_softmax(op: Op, x: Array) -> Array:
    """Over dimension 1."""
    x = wide(x)
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def log_softmax_grad(op: Op, g: Array, y: Array) -> Array:
    """``g - exp(y) * sum g``"""
    g = wide(g)
    return np.asarray(g - np.exp(wide(y)) * g.sum(axis=1, keepdims=True))


def _chosen(op: Op, target: Array, classes: int) -> tuple[Array, Array]:
    """The labels with 0 for ignored ones, and which count; both with a dimension 1 for classes.

    A label that is no class is the nearest one, as in kernels; who makes labels looks at them.
    """
    counts = target != op.int_attr("ignore_index")
    return np.where(counts, target.clip(0, classes - 1), 0)[:, None], counts[:, None]


def nll_loss(op: Op, y: Array, target: Array) -> tuple[Array, ...]:
    """The mean over no label at all is NaN, as in torch."""
    label, counts = _chosen(op, target, y.shape[1])
    total = -np.sum(np.where(counts, np.take_along_axis(wide(y), label, axis=1), 0))
    count = wide(counts).sum()
    loss = total / count if op.word_attr("reduction") == "mean" else total
    return np.asarray(loss), np.asarray(count)


def nll_loss_grad(op: Op, g: Array, target: Array, count: Array) -> Array:
    """``-(g / count)`` at each label that counts."""
    label, counts = _chosen(op, target, op.result.type.shape[1])
    share = g / count if op.word_attr("reduction") == "mean" else g
    dy = np.zeros(op.result.type.shape, np.float32)
    np.put_along_axis(dy, label, np.where(counts, -share, np.float32(0)), axis=1)
    return dy


def mse_loss(op: Op, x: Array, y: Array) -> Array:
    """Mean or sum of squared differences."""
    squares = np.square(wide(x) - wide(y))
    return np.asarray(squares.mean() if op.word_attr("reduction") == "mean" else squares.sum())


def mse_loss_grad(op: Op, g: Array, x: Array, y: Array) -> Array:
    """``(2 / elements) * (x - y) * g`` in f32, with 2 for the sum."""
    factor = 2.0 / x.size if op.word_attr("reduction") == "mean" else 2.0
    return np.float32(factor) * (x - y) * g


LOSS: dict[str, Meaning] = {
    "log_softmax": on_numbers(log_softmax),
    "log_softmax_grad": on_numbers(log_softmax_grad),
    "nll_loss": on_numbers(nll_loss),
    "nll_loss_grad": on_numbers(nll_loss_grad),
    "mse_loss": on_numbers(mse_loss),
    "mse_loss_grad": on_numbers(mse_loss_grad),
}
