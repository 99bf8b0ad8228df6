"""exp and log in f64 by arithmetic alone: the same bits on every machine, whatever its libm."""

from __future__ import annotations

import math
import struct

from tvm import tirx as tir

from .tvm_expr import Expr, Vectors, typed

LOG2E = math.log2(math.e)
# ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
EXP_TERMS = 13  # |r| <= ln(2)/2: the next term is below 1e-17
LOG_TERMS = 12  # |t| <= 0.172: the next term is below 1e-19


def exp(v: Vectors, x: Expr) -> Expr:
    """e^x of an f64 name, x <= 709; below -700 as e^-700, which f32 cannot tell from 0.

    The relative error is below 1e-15; NaN stays.
    """
    x = v.f(v.where(x < v.splat(-700.0), v.splat(-700.0), x))
    k = v.rint(v.mul(x, v.splat(LOG2E)))
    r = v.sub(v.sub(x, v.mul(k, v.splat(LN2_HIGH))), v.mul(k, v.splat(LN2_LOW)))
    p = v.splat(1 / math.factorial(EXP_TERMS))
    for n in reversed(range(EXP_TERMS)):
        p = v.add(v.mul(p, r), v.splat(1 / math.factorial(n)))
    power = v.cast(v.cast(k, "int32"), "int64") + v.splat(1023, "int64")
    bits = tir.shift_left(power, v.splat(52, "int64"))
    return v.mul(p, tir.reinterpret(typed("float64", v.lanes), bits))


def log(v: Vectors, x: Expr) -> Expr:
    """The natural logarithm of a normal f64 name > 0; what is no such number gives NaN.

    x = m 2^k with m from sqrt(1/2) to sqrt(2); log m = 2 atanh t, t = (m - 1) / (m + 1).
    """
    double, whole = typed("float64", v.lanes), typed("int64", v.lanes)
    # Subtracting the bits of sqrt(1/2) puts the step between exponents there.
    (base,) = struct.unpack("<q", struct.pack("<d", math.sqrt(0.5)))
    above = tir.reinterpret(whole, x) - v.splat(base, "int64")
    k = tir.shift_right(above, v.splat(52, "int64"))
    rest = tir.bitwise_and(above, v.splat((1 << 52) - 1, "int64"))
    m = v.f(tir.reinterpret(double, rest + v.splat(base, "int64")))
    t = v.div(v.sub(m, v.splat(1.0)), v.add(m, v.splat(1.0)))
    square, p = v.mul(t, t), v.splat(1 / (2 * LOG_TERMS + 1))
    for n in reversed(range(LOG_TERMS)):
        p = v.add(v.mul(p, square), v.splat(1 / (2 * n + 1)))
    exponent = v.f(v.cast(k, "float64"))
    small = v.add(v.mul(exponent, v.splat(LN2_LOW)), v.mul(v.mul(t, v.splat(2.0)), p))
    result = v.add(v.mul(exponent, v.splat(LN2_HIGH)), small)
    # Infinity and NaN: their difference with themselves is NaN, that of others 0.
    return v.add(result, v.sub(x, v.f(x)))
