"""Reference of functions of a number, comparisons and choices: in float64, rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array
from ..numbers.threefry import uniform
from .frame import Meaning, OnNumbers, on_numbers, wide

RELATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "ge": np.greater_equal,
    "gt": np.greater,
}
erf = np.vectorize(math.erf, otypes=[np.float64])


def _wide(function: Callable[[Array], Array]) -> OnNumbers:
    return lambda op, x: np.asarray(function(wide(x)), np.float32)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def sign(op: Op, x: Array) -> Array:
    """1, 0 or -1; 0 for NaN."""
    return np.where(x > 0, np.float32(1), np.where(x < 0, np.float32(-1), np.float32(0)))


def power(op: Op, x: Array) -> Array:
    """x^exponent; of minus infinity too NaN where the exponent is no integer."""
    exponent, numbers = op.float_attr("exponent"), wide(x)
    if abs(exponent) == 0.5:
        root = np.sqrt(numbers)
        return np.asarray(root if exponent > 0 else 1 / root, np.float32)
    made = np.power(numbers, exponent)
    if not exponent.is_integer():
        made = np.where(numbers < 0, np.nan, made)
    return np.asarray(made, np.float32)


def clamp_max(op: Op, x: Array) -> Array:
    """NaN stays."""
    high = np.float32(op.float_attr("high"))
    return np.where(x > high, high, x)


def shift(op: Op, x: Array) -> Array:
    """The number is rounded to f32 first."""
    return x + np.float32(op.float_attr("by"))


def div(op: Op, a: Array, b: Array) -> Array:
    """a / b"""
    return a / b


def maximum(op: Op, a: Array, b: Array) -> Array:
    """NaN wins."""
    return np.where((a > b) | np.isnan(a), a, b)


def minimum(op: Op, a: Array, b: Array) -> Array:
    """NaN wins."""
    return np.where((a < b) | np.isnan(a), a, b)


def compare(op: Op, a: Array, b: Array) -> Array:
    """1 or 0."""
    return RELATIONS[op.word_attr("relation")](a, b).astype(np.float32)


def compare_to(op: Op, x: Array) -> Array:
    """1 or 0; the number is rounded to f32 first."""
    return compare(op, x, np.asarray(op.float_attr("value"), np.float32))


def where(op: Op, c: Array, a: Array, b: Array) -> Array:
    """a where c is not 0."""
    return np.where(c != 0, a, b)


def masked(op: Op, c: Array, x: Array) -> Array:
    """A number where c is not 0."""
    return np.where(c != 0, np.float32(op.float_attr("value")), x)


def within(op: Op, x: Array) -> Array:
    """NaN is in no range."""
    fits = (x >= np.float32(op.float_attr("low"))) & (x <= np.float32(op.float_attr("high")))
    return np.where(fits, x, np.float32(np.nan))


def initialize(op: Op, w: Array, seed: Array, step: Array) -> Array:
    """By Threefry, at step 0."""
    if int(step) & 0xFFFFFFFF:
        return w
    u = uniform(int(seed), int(step), op.int_attr("salt"), w.shape)
    return np.asarray((u - np.float32(0.5)) * np.float32(2 * op.float_attr("bound")))


def random_mask(op: Op, seed: Array, step: Array) -> Array:
    """1 where a uniform number in [0, 1) is below ``keep``."""
    u = uniform(int(seed), int(step), op.int_attr("salt"), op.result.type.shape)
    return (u < np.float32(op.float_attr("keep"))).astype(np.float32)


def random_uniform(op: Op, seed: Array, step: Array) -> Array:
    """By Threefry."""
    return uniform(int(seed), int(step), op.int_attr("salt"), op.result.type.shape)


def absolute(op: Op, x: Array) -> Array:
    """|x|"""
    return np.abs(x)


def floor(op: Op, x: Array) -> Array:
    """Exact."""
    return np.asarray(np.floor(x))


def round_(op: Op, x: Array) -> Array:
    """Exact."""
    return np.asarray(np.rint(x))


def sqrt(op: Op, x: Array) -> Array:
    """Correctly rounded."""
    return np.asarray(np.sqrt(x))


FUNCTIONS: dict[str, OnNumbers] = {
    "abs": absolute,
    "sign": sign,
    "floor": floor,
    "round": round_,
    "sqrt": sqrt,
    "exp": _wide(np.exp),
    "expm1": _wide(np.expm1),
    "log": _wide(np.log),
    "log1p": _wide(np.log1p),
    "sin": _wide(np.sin),
    "cos": _wide(np.cos),
    "tanh": _wide(np.tanh),
    "sigmoid": _wide(_sigmoid),
    "erf": _wide(erf),
    "power": power,
    "clamp_max": clamp_max,
    "shift": shift,
    "div": div,
    "maximum": maximum,
    "minimum": minimum,
    "compare": compare,
    "compare_to": compare_to,
    "where": where,
    "masked": masked,
    "within": within,
    "initialize": initialize,
    "random_mask": random_mask,
    "random_uniform": random_uniform,
}
MATH: dict[str, Meaning] = {kind: on_numbers(function) for kind, function in FUNCTIONS.items()}
