"""Functions in f64 by arithmetic alone, whatever a machine's libm: the same bits wherever a product
and an addition are one instruction, elsewhere the same f32 but for one in some 10^8.

Where a function is its argument plus little, its series takes over: f32 keeps the relative error.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from tvm import tirx as tir

from .expr import Expr, Vectors, typed

LOG2E = math.log2(math.e)
# ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
EXP_TERMS = 13  # |r| <= ln(2)/2: the next term is below 1e-17
LOG_TERMS = 12  # |t| <= 0.172: the next term is below 1e-19
LARGEST = 700.0  # e^700 is far above f32 and below f64's end
SMALL = 1e-4  # below, series with terms to x^5 leave out less than 1e-20 of x
MOST_FACTORS = 64  # integer exponents up to this are products

# W. J. Cody, "Rational Chebyshev approximation for the error function" (Math. Comp. 23, 1969):
# erf x = x P(x^2) / Q(x^2) to 0.46875, erfc x = exp(-x^2) P(x) / Q(x) from there to 4.
ERF_EDGE, ERF_END = 0.46875, 4.0
ERF_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
ERF_Q = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
ERFC_P = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
ERFC_Q = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)


def exp(v: Vectors, x: Expr) -> Expr:
    """e^x of an f64 name, x <= 709; below -700 as e^-700, which f32 cannot tell from 0.

    The relative error is below 1e-15; NaN stays.
    """
    x = v.f(v.where(x < v.splat(-700.0), v.splat(-700.0), x))
    k = v.rint(v.mul(x, v.splat(LOG2E)))
    r = v.fma(k, v.splat(-LN2_LOW), v.fma(k, v.splat(-LN2_HIGH), x))
    p = _polynomial(v, r, [1 / math.factorial(n) for n in reversed(range(EXP_TERMS + 1))])
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
    p = _polynomial(v, v.mul(t, t), [1 / (2 * n + 1) for n in reversed(range(LOG_TERMS + 1))])
    exponent = v.f(v.cast(k, "float64"))
    small = v.add(v.mul(exponent, v.splat(LN2_LOW)), v.mul(v.mul(t, v.splat(2.0)), p))
    result = v.add(v.mul(exponent, v.splat(LN2_HIGH)), small)
    # Infinity and NaN: their difference with themselves is NaN, that of others 0.
    return v.add(result, v.sub(x, v.f(x)))


def _clamped(v: Vectors, x: Expr, low: float, high: float) -> Expr:
    """NaN stays."""
    x = v.f(v.where(x > v.splat(high), v.splat(high), x))
    return v.f(v.where(x < v.splat(low), v.splat(low), x))


def _polynomial(v: Vectors, x: Expr, terms: Sequence[float]) -> Expr:
    """The polynomial with ``terms`` from the highest power on, by Estrin's scheme.

    Neighbours are joined to polynomials of x^2, those of x^4, and so on: as many instructions as
    Horner's, of which few wait for another.
    """
    made, power = [v.splat(term) for term in reversed(terms)], x
    while len(made) > 1:
        alone = made[-1:] if len(made) % 2 else []
        pairs = zip(made[::2], made[1::2], strict=False)
        made = [v.fma(high, power, low) for low, high in pairs] + alone
        power = v.mul(power, power) if len(made) > 1 else power
    return made[0]


def _near_zero(v: Vectors, x: Expr, terms: Sequence[float], else_: Expr) -> Expr:
    """A series where |x| is small, with terms from the highest power on and none for x^0."""
    size = v.f(v.where(x < v.splat(0.0), v.mul(x, v.splat(-1.0)), x))
    series = v.mul(_polynomial(v, x, terms), x)
    return v.f(v.where(size < v.splat(SMALL), series, else_))


def exp_any(v: Vectors, x: Expr) -> Expr:
    """e^x of any f64 name; far above what f32 holds the result is as large."""
    return exp(v, _clamped(v, x, -LARGEST, LARGEST))


def expm1(v: Vectors, x: Expr) -> Expr:
    """e^x - 1"""
    terms = (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0)
    return _near_zero(v, x, terms, v.sub(exp_any(v, x), v.splat(1.0)))


def tanh(v: Vectors, x: Expr) -> Expr:
    """1 - 2 / (e^2x + 1)"""
    grown = v.add(exp_any(v, v.mul(x, v.splat(2.0))), v.splat(1.0))
    far = v.sub(v.splat(1.0), v.div(v.splat(2.0), grown))
    return _near_zero(v, x, (2 / 15, 0.0, -1 / 3, 0.0, 1.0), far)


def sigmoid(v: Vectors, x: Expr) -> Expr:
    """1 / (1 + e^-x)"""
    grown = exp_any(v, v.mul(x, v.splat(-1.0)))
    return v.div(v.splat(1.0), v.add(v.splat(1.0), grown))


def log_any(v: Vectors, x: Expr) -> Expr:
    """The natural logarithm of any f64 name: -inf of 0, NaN below."""
    y = v.f(v.where(x < v.splat(0.0), v.splat(math.nan), log(v, x)))
    y = v.f(v.where(x.equal(v.splat(0.0)), v.splat(-math.inf), y))
    return v.f(v.where(x.equal(v.splat(math.inf)), x, y))


def log1p(v: Vectors, x: Expr) -> Expr:
    """log(1 + x)"""
    terms = (1 / 5, -1 / 4, 1 / 3, -1 / 2, 1.0)
    return _near_zero(v, x, terms, log_any(v, v.add(x, v.splat(1.0))))


def erf(v: Vectors, x: Expr) -> Expr:
    """The error function; from 4 on f32 cannot tell it from 1."""
    negative = x < v.splat(0.0)
    size = v.f(v.where(negative, v.mul(x, v.splat(-1.0)), x))
    square = v.mul(size, size)
    z = _clamped(v, size, 0.0, ERF_END)
    over = v.mul(exp(v, v.mul(v.mul(z, z), v.splat(-1.0))), _polynomial(v, z, ERFC_P))
    under = _polynomial(v, z, ERFC_Q)
    near = size < v.splat(ERF_EDGE)
    # One quotient for both: of NaN it is NaN.
    top = v.f(v.where(near, v.mul(size, _polynomial(v, square, ERF_P)), over))
    ratio = v.div(top, v.f(v.where(near, _polynomial(v, square, ERF_Q), under)))
    made = v.f(v.where(near, ratio, v.sub(v.splat(1.0), ratio)))
    return v.f(v.where(negative, v.mul(made, v.splat(-1.0)), made))


def power(v: Vectors, x: Expr, exponent: float) -> Expr:
    """x^exponent; NaN where x < 0 and the exponent is no integer."""
    if exponent.is_integer() and abs(exponent) <= MOST_FACTORS:
        return _whole_power(v, x, int(exponent))
    if abs(exponent) == 0.5:
        root = v.sqrt(x)
        return root if exponent > 0 else v.div(v.splat(1.0), root)
    size, odd = x, False
    if exponent.is_integer():
        odd = int(exponent) % 2 == 1
        size = v.f(v.where(x < v.splat(0.0), v.mul(x, v.splat(-1.0)), x))
    y = exp_any(v, v.mul(log_any(v, size), v.splat(exponent)))
    return v.f(v.where(x < v.splat(0.0), v.mul(y, v.splat(-1.0)), y)) if odd else y


def _whole_power(v: Vectors, x: Expr, exponent: int) -> Expr:
    made, square, rest = v.splat(1.0), x, abs(exponent)
    while rest:
        if rest % 2:
            made = v.mul(made, square)
        rest //= 2
        square = v.mul(square, square) if rest else square
    return v.div(v.splat(1.0), made) if exponent < 0 else v.f(made)
