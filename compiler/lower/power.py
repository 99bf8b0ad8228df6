"""Lowering of powers: of a fixed exponent, of a fixed base, and of tensors with tensors."""

from __future__ import annotations

from math import log

from ..ir import Value
from .builder import Builder, CallLowering, result_shape, shape_of
from .joint import Call
from .pointwise import operand, plain, scaled, shifted


def raised(b: Builder, x: Value, exponent: float) -> Value:
    """x^exponent"""
    shape = shape_of(x)
    if exponent == 0.0:
        return b.constant(shape, 1.0)
    if exponent == 1.0:
        return x
    if exponent == 2.0:
        return b.one("mul", (x, x), "square", shape)
    if exponent == 0.5:
        return b.one("sqrt", (x,), "sqrt", shape)
    return b.one("power", (x,), "power", shape, exponent=exponent)


def power_of(exponent: float) -> CallLowering:
    """Lowering of a function that is a fixed power."""

    def lower(b: Builder, call: Call) -> None:
        b.bind(call, raised(b, b.of(call.args[0]), exponent))

    return lower


def power(b: Builder, call: Call) -> None:
    """x^y with a number on one side at least."""
    x, y = call.args[:2]
    exponent = plain(b, y)
    if exponent is not None:
        b.bind(call, raised(b, operand(b, x, result_shape(call)), exponent))
        return
    base, shape = plain(b, x), result_shape(call)
    if base is None or base <= 0.0:
        b.bind(call, _each(b, operand(b, x, shape), operand(b, y, shape)))
        return
    rate = scaled(b, operand(b, y, shape), log(base))
    b.bind(call, b.one("exp", (rate,), "exp", shape))


def _each(b: Builder, x: Value, y: Value) -> Value:
    """Each element to a power of its own: e^(y log |x|), with a sign where y is odd.

    A power of 0 is 1 of zeros too; what is below 0 has powers of whole numbers alone.
    """
    shape = shape_of(x)
    size = b.one("abs", (x,), "abs", shape)
    rate = b.one("mul", (b.one("log", (size,), "log", shape), y), "rate", shape)
    made = b.one("exp", (rate,), "exp", shape)
    none = b.one("compare_to", (y,), "none", shape, relation="eq", value=0.0)
    made = b.one("masked", (none, made), "power", shape, value=1.0)
    half = scaled(b, y, 0.5)
    down = scaled(b, b.one("floor", (half,), "floor", shape), -2.0)
    rest = b.one("add", (y, down), "rest", shape)  # 0 of even numbers, 1 of odd ones
    sign = shifted(b, scaled(b, rest, -2.0), 1.0)
    whole = b.one("floor", (y,), "floor", shape)
    broken = b.one("compare", (whole, y), "broken", shape, relation="ne")
    sign = b.one("masked", (broken, sign), "sign", shape, value=float("nan"))
    turned = b.one("mul", (made, sign), "turned", shape)
    below = b.one("compare_to", (x,), "below", shape, relation="lt", value=0.0)
    return b.one("where", (below, turned, made), "power", shape)


def exp2(b: Builder, call: Call) -> None:
    """2^x"""
    rate = scaled(b, b.of(call.args[0]), log(2.0))
    b.bind(call, b.one("exp", (rate,), "exp", result_shape(call)))


POWER: dict[str, CallLowering] = {
    "aten.rsqrt.default": power_of(-0.5),
    "prims.rsqrt.default": power_of(-0.5),
    "aten.reciprocal.default": power_of(-1.0),
    "aten.square.default": power_of(2.0),
    "aten.pow.Tensor_Scalar": power,
    "aten.pow.Scalar": power,
    "aten.pow.Tensor_Tensor": power,
    "aten.exp2.default": exp2,
}
