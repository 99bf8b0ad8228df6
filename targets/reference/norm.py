"""Reference of batch normalization: statistics in float64, what uses them in f32 as written.

Expressions of attributes and sizes alone (1 - momentum, P) are one f32 constant.
"""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers, over_channels, per_channel, wide


def _deviation(op: Op, var: Array) -> Array:
    """sqrt(var + eps) in f32."""
    return np.sqrt(var + np.float32(op.float_attr("eps")))


def batch_stats(op: Op, x: Array) -> tuple[Array, ...]:
    """Mean and biased variance of each channel; both NaN where one is no number."""
    x = wide(x)
    mean = x.mean(axis=over_channels(x), keepdims=True)
    var = np.square(x - mean).mean(axis=over_channels(x))
    return np.where(np.isnan(var), var, mean.ravel()), var


def batch_norm(op: Op, x: Array, mean: Array, var: Array, gamma: Array, beta: Array) -> Array:
    """``x * a + b``"""
    a = gamma / _deviation(op, var)
    b = beta - mean * a
    return x * per_channel(a, x.ndim) + per_channel(b, x.ndim)


def batch_norm_grad_stats(op: Op, g: Array, x: Array, mean: Array, var: Array) -> tuple[Array, ...]:
    """dgamma, dbeta"""
    g, x, mean = wide(g), wide(x), wide(mean)
    r = 1 / np.sqrt(wide(var) + op.float_attr("eps"))
    normal = (x - per_channel(mean, x.ndim)) * per_channel(r, x.ndim)
    return (g * normal).sum(axis=over_channels(g)), g.sum(axis=over_channels(g))


def batch_norm_input_grad(
    op: Op,
    g: Array,
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    dgamma: Array,
    dbeta: Array,
) -> Array:
    """``g * a + x * b + c``"""
    r = np.float32(1) / _deviation(op, var)
    p = np.float32(x.size // x.shape[1])
    a = gamma * r
    b = -a * dgamma * r / p
    c = -a * dbeta / p - mean * b
    a, b, c = (per_channel(v, x.ndim) for v in (a, b, c))
    return g * a + x * b + c


def batch_norm_eval_grad(op: Op, g: Array, var: Array, gamma: Array) -> Array:
    """``g * (gamma / sqrt(var + eps))``"""
    return g * per_channel(gamma / _deviation(op, var), g.ndim)


def running_stats(op: Op, old: Array, new: Array) -> Array:
    """With a constant momentum."""
    momentum = op.float_attr("momentum")
    news = np.float32(momentum) * (new * np.float32(op.float_attr("correction")))
    return np.float32(1 - momentum) * old + news


def running_average(op: Op, old: Array, new: Array, count: Array) -> Array:
    """With momentum 1 / count."""
    momentum = np.float32(1) / count.astype(np.float32)
    news = momentum * (new * np.float32(op.float_attr("correction")))
    return (np.float32(1) - momentum) * old + news


def increment(op: Op, n: Array) -> Array:
    """n + 1"""
    return n + 1


def tally(op: Op, n: Array, *x: Array) -> Array:
    """n + 1 where anything is not finite, else n."""
    return n if all(np.isfinite(v).all() for v in x) else n + 1


def count_where(op: Op, n: Array, x: Array) -> Array:
    """n + 1 where x is not 0, else n."""
    return n + 1 if x != 0 else n


def ratio(op: Op, n: Array) -> Array:
    """Rounded down."""
    return n // op.int_attr("by")


def turn(op: Op, n: Array) -> Array:
    """1 or 0."""
    of = op.int_attr("of")
    return np.asarray((n % of if of else n) == op.int_attr("at"), np.float32)


NORM: dict[str, Meaning] = {
    "ratio": on_numbers(ratio),
    "turn": on_numbers(turn),
    "batch_stats": on_numbers(batch_stats),
    "batch_norm": on_numbers(batch_norm),
    "batch_norm_grad_stats": on_numbers(batch_norm_grad_stats),
    "batch_norm_input_grad": on_numbers(batch_norm_input_grad),
    "batch_norm_eval_grad": on_numbers(batch_norm_eval_grad),
    "running_stats": on_numbers(running_stats),
    "running_average": on_numbers(running_average),
    "increment": on_numbers(increment),
    "tally": on_numbers(tally),
    "count_where": on_numbers(count_where),
}
