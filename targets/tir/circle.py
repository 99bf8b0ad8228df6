"""Sine and cosine in f64 by arithmetic alone, of any f32: as exact far from 0 as near it.

Payne and Hanek, "Radian reduction for trigonometric functions" (SIGNUM 18, 1983): an f32 has 24
bits, so that its product with 24 bits of 2/pi is exact in f64, and so is what is left of that when
whole turns are taken away. What follows from the first bits goes before the next ones come.
"""

from __future__ import annotations

import math

from .expr import Expr, Vectors

# The first 216 bits of 2/pi behind the point, 24 at a time.
BITS = "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163"
CHUNKS = tuple(
    math.ldexp(int(BITS[6 * i : 6 * i + 6], 16), -24 * (i + 1)) for i in range(len(BITS) // 6)
)
TERMS = 9  # |r| <= pi/4: the next term is below 1e-17


def _quarters(v: Vectors, x: Expr) -> tuple[Expr, Expr]:
    """x as quarters of a turn and a rest of at most half of one, in radians."""
    whole, rest = v.splat(0.0), v.splat(0.0)
    for chunk in CHUNKS:
        term = v.mul(x, v.splat(chunk))
        turns = v.mul(v.rint(v.mul(term, v.splat(0.25))), v.splat(4.0))
        rest = v.add(rest, v.sub(term, turns))
        near = v.rint(rest)
        whole, rest = v.add(whole, near), v.sub(rest, near)
    return whole, v.mul(rest, v.splat(math.pi / 2))


def _series(v: Vectors, square: Expr, first: int) -> Expr:
    """1 - r^2 / ((first + 1)(first + 2)) + ...: of cosine from 0 on, of sine over r from 1 on."""
    made = v.splat(1.0)
    for n in reversed(range(TERMS)):
        below = (first + 2 * n + 1) * (first + 2 * n + 2)
        made = v.sub(v.splat(1.0), v.mul(v.mul(square, v.splat(1 / below)), made))
    return made


def _wave(v: Vectors, x: Expr, ahead: float) -> Expr:
    """The sine of x and some quarters of a turn; infinity and NaN give NaN."""
    whole, r = _quarters(v, x)
    square = v.mul(r, r)
    quarters = v.add(whole, v.splat(ahead))
    place = v.sub(quarters, v.mul(v.floor(v.mul(quarters, v.splat(0.25))), v.splat(4.0)))
    half = v.f(v.where(place > v.splat(1.5), v.splat(2.0), v.splat(0.0)))
    odd = v.sub(place, half) > v.splat(0.5)
    made = v.f(v.where(odd, _series(v, square, 0), v.mul(r, _series(v, square, 1))))
    return v.f(v.where(half > v.splat(1.0), v.mul(made, v.splat(-1.0)), made))


def sin(v: Vectors, x: Expr) -> Expr:
    """The sine of an f64 name that is an f32; that of a zero is this zero."""
    return v.f(v.where(x.equal(v.splat(0.0)), x, _wave(v, x, 0.0)))


def cos(v: Vectors, x: Expr) -> Expr:
    """The cosine of an f64 name that is an f32."""
    return _wave(v, x, 1.0)
