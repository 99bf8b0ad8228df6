"""log2 and 2^e in f32 by arithmetic alone: reference and kernels compute the same bits.

An f32 exponent of an 8-bit float is enough: alpha and beta of squeezed numbers are f32 themselves,
and beta, of the size of alpha log2 x, is rounded no finer than what these two lose.

    log2 x = k + log2 m,  m from sqrt(1/2) to sqrt(2);  log2 m = 2 / ln 2 atanh t,  t = (m-1)/(m+1)
    2^e    = 2^n 2^r,     n = rint(e), |r| <= 1/2;      2^r by its series

The first terms left out are below 5e-9 of log2 m and 4e-7 of 2^r.
"""

from __future__ import annotations

import math

import numpy as np

from .rounding import Array

LN2 = math.log(2.0)
# From the constant on; of t^1, t^3 .. t^9, and of r^0 .. r^6.
LOG_TERMS = tuple(2 / LN2 / (2 * n + 1) for n in range(5))
POWER_TERMS = tuple(LN2**n / math.factorial(n) for n in range(7))
# The smallest normal number: smaller ones count as 0. Exponents beyond these count as they.
LEAST = 2.0**-126
LOWEST, HIGHEST = -126.0, 127.0
# Subtracting the bits of sqrt(1/2) puts the step between exponents there.
ROOT = int(np.float32(math.sqrt(0.5)).view(np.int32))
FRACTION = (1 << 23) - 1


def log2(x: Array) -> Array:
    """Of normal f32 numbers above 0; infinity and NaN of themselves."""
    x = np.asarray(x, np.float32)
    above = x.view(np.int32) - np.int32(ROOT)
    k = (above >> 23).astype(np.float32)
    m = ((above & FRACTION) + np.int32(ROOT)).view(np.float32)
    one = np.float32(1)
    t = (m - one) / (m + one)
    return np.where(x < np.float32(np.inf), k + t * _series(t * t, LOG_TERMS), x)


def exp2(e: Array) -> Array:
    """2^e in f32, of e within ``LOWEST`` and ``HIGHEST``; NaN of NaN."""
    e = np.clip(np.asarray(e, np.float32), np.float32(LOWEST), np.float32(HIGHEST))
    n = np.rint(e)
    whole = np.nan_to_num(n).astype(np.int32)
    power = ((whole + np.int32(127)) << 23).view(np.float32)
    return np.asarray(_series(e - n, POWER_TERMS) * power)


def _series(x: Array, terms: tuple[float, ...]) -> Array:
    total = np.full_like(x, np.float32(terms[-1]))
    for term in reversed(terms[:-1]):
        total = total * x + np.float32(term)
    return total
