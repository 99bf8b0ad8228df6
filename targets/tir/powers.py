"""log2 and 2^e in f32 in generated code: ``powers.py``, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx as tir

from ..numbers.powers import FRACTION, HIGHEST, LOG_TERMS, LOWEST, POWER_TERMS, ROOT
from .expr import Expr, Vectors


def log2(v: Vectors, x: Expr) -> Expr:
    """Of a normal f32 name above 0; infinity and NaN of themselves."""
    above = v.signed(v.hold(v.bits(x) - v.u(ROOT)))
    k = v.f(v.cast(tir.shift_right(above, v.i(23)), "float32"))
    m = v.f(v.to_f((v.unsigned(above) & v.u(FRACTION)) + v.u(ROOT)))
    one = v.splat(1.0)
    t = v.div(v.sub(m, one), v.add(m, one))
    found = v.add(k, v.mul(t, _series(v, v.mul(t, t), LOG_TERMS)))
    return v.f(v.where(x < v.splat(math.inf), found, x))


def exp2(v: Vectors, e: Expr) -> Expr:
    """2^e of an f32 name, of e within ``LOWEST`` and ``HIGHEST``; NaN of NaN."""
    e = v.f(v.where(e < v.splat(LOWEST), v.splat(LOWEST), e))
    e = v.f(v.where(e > v.splat(HIGHEST), v.splat(HIGHEST), e))
    n = v.rint(e)
    # NaN is no integer that could be shifted.
    whole = v.cast(v.f(v.where(n >= v.splat(LOWEST), n, v.splat(0.0))), "int32")
    power = v.f(v.to_f(v.unsigned(tir.shift_left(whole + v.i(127), v.i(23)))))
    return v.mul(_series(v, v.sub(e, n), POWER_TERMS), power)


def _series(v: Vectors, x: Expr, terms: Sequence[float]) -> Expr:
    total = v.splat(terms[-1])
    for term in reversed(terms[:-1]):
        total = v.add(v.mul(total, x), v.splat(term))
    return total
