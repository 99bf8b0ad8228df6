"""Rounding numbers to the codes of a format by search in its list of levels, and back.

Nothing here knows how a format is made of bits beyond the place of its sign, so that it is right
for every coded format, and a check for kernels, which do the same by arithmetic.

Numbers beyond the outermost level saturate. NaN takes the format's quiet NaN code; where it has
none, NaN counts as infinity of its sign and saturates. In formats with an exponent the sign bit of
the code is that of the number, also where the level is zero; integers have one zero. Of a list the
upper of two levels gets what lies halfway, and NaN is code 0, whatever its sign.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.formats import Format

Array = NDArray[Any]


class Tie(Enum):
    """What happens to a number exactly between two levels."""

    EVEN = "even"  # to the one with the even code
    UP = "up"  # away from zero (from zero itself to the positive level)
    DOWN = "down"  # towards zero


class Underflow(Enum):
    """Where numbers below the smallest level of a logarithmic format begin to round to it."""

    UNIFORM = "uniform"  # at the same fraction of it as at every other level
    NEAREST = "nearest"  # at its half


@cache
def decode_table(f: Format) -> Array:
    """The numbers that the codes 0 .. 2^bits - 1 stand for, as float32 (exact for every format)."""
    table = np.array([f.decode(c) for c in range(1 << f.bits)], np.float32)
    table.flags.writeable = False
    return table


def codes_type(f: Format) -> np.dtype[Any]:
    """NumPy's type of one code: the narrowest of one or two bytes."""
    return np.dtype(np.uint8 if f.bits <= 8 else np.uint16)


def decode(codes: Array, f: Format) -> Array:
    """The numbers that ``codes`` stand for, as float32, without any scale."""
    return np.asarray(decode_table(f)[codes])


def encode(x: Array, f: Format, tie: Tie = Tie.EVEN) -> Array:
    """Codes of the levels nearest to ``x``, which may be of any float type and shape."""
    if f.listed:
        return _encode_listed(x, f)
    levels, codes = _levels(f)
    wide = _without_nan(x)
    low = np.clip(np.searchsorted(levels, wide, side="right") - 1, 0, len(levels) - 2)
    middle = (levels[low] + levels[low + 1]) / 2
    match tie:
        case Tie.EVEN:
            upper_wins = codes[low + 1] % 2 == 0
        case Tie.UP:
            upper_wins = middle >= 0
        case Tie.DOWN:
            upper_wins = middle < 0
    nearest = low + ((wide > middle) | ((wide == middle) & upper_wins))
    return _finish(codes[nearest], x, f)


def encode_log(x: Array, f: Format, up: float, tie: Tie, underflow: Underflow) -> Array:
    """Codes (uint8) of a logarithmic format: the largest level ``L`` with ``|x| >= L / up``.

    ``up`` is L over the threshold: 2r / (1 + r) is the arithmetic midpoint of radix r (1.6 for 4),
    (1 + r) / 2 the harmonic one (2.5). Ties go to the level above (``UP``) or stay below
    (``DOWN``). NaN goes to the top. Sun et al. 2020, section 3 (two-phase rounding).
    """
    assert f.is_log and tie is not Tie.EVEN, f"{f} with ties {tie.value} is no logarithmic rounding"
    positive = np.array([v for v in f.levels() if v > 0])
    thresholds = positive / up
    if underflow is Underflow.NEAREST:
        thresholds[0] = positive[0] / 2
    size = np.abs(_wide(x))
    # Codes of magnitudes count the levels: 0 is zero, 1 the smallest level, and so on.
    code = np.searchsorted(thresholds, size, side="right" if tie is Tie.UP else "left")
    return (code | _sign(x, f)).astype(np.uint8)


def encode_stochastic(x: Array, f: Format, u: Array) -> Array:
    """Codes of a level beside ``x``: the upper one iff ``u (high - low) < x - low`` in f32.

    ``u`` (float32, shape of ``x``) is uniform in [0, 1), so that the mean of many is ``x`` within
    the range of the format. Formats with an exponent round the magnitude, integers the number.
    """
    levels, codes = _levels(f)
    wide = _without_nan(x).astype(np.float32)
    value = np.clip(np.abs(wide) if f.exp else wide, levels[0], levels[-1]).astype(np.float32)
    low = np.clip(np.searchsorted(levels, value, side="right") - 1, 0, len(levels) - 2)
    below, above = (levels[i].astype(np.float32) for i in (low, low + 1))
    return _finish(codes[low + (u * (above - below) < value - below)], x, f)


def _encode_listed(x: Array, f: Format) -> Array:
    """Codes of a list: how many middles of neighbours a number reaches."""
    levels, wide = np.array(f.listed), _wide(x)
    reached = np.searchsorted((levels[:-1] + levels[1:]) / 2, wide, side="right")
    return np.asarray(np.where(np.isnan(wide), 0, reached), codes_type(f))


@cache
def reaches(f: Format) -> tuple[float, ...]:
    """Of each level of a list, but the first, the least f32 that is rounded to it or above."""
    levels = np.array(f.listed)
    middles = (levels[:-1] + levels[1:]) / 2
    near = middles.astype(np.float32)
    above = np.nextafter(near, np.float32(np.inf))
    return tuple(map(float, np.where(near < middles, above, near)))


@cache
def _levels(f: Format) -> tuple[Array, Array]:
    """Levels, ascending, and their codes."""
    levels = f.levels()
    if f.is_integer and f.signed and not f.midrise:
        code_of = {v: int(v) & ((1 << f.bits) - 1) for v in levels}
    else:
        # Minus zero repeats zero, and codes above the top level repeat that; the lowest one counts.
        spare = 1 << (f.bits - 1) if f.exp and f.signed else -1
        code_of = {f.decode(c): c for c in reversed(range(1 << f.bits)) if c != spare}
    return np.array(levels), np.array([code_of[v] for v in levels], codes_type(f))


@cache
def _quiet_nan(f: Format) -> int | None:
    """The NaN code with the highest mantissa bit set; None where the format has no NaN."""
    nans = (c for c in f.specials if np.isnan(f.decode(c)))
    return next((c for c in nans if not f.man or c >> (f.man - 1) & 1), None)


def _wide(x: Array) -> Array:
    # A signalling NaN is a NaN like any other.
    with np.errstate(invalid="ignore"):
        return np.asarray(x, np.float64)


def _without_nan(x: Array) -> Array:
    wide = _wide(x)
    return np.where(np.isnan(wide), np.copysign(np.inf, wide), wide)


def _sign(x: Array, f: Format) -> Array:
    return np.signbit(x).astype(np.uint8) << (f.bits - 1)


def _finish(codes: Array, x: Array, f: Format) -> Array:
    """Set the signs of zeros and NaNs of a format with an exponent."""
    if f.exp == 0:
        return np.asarray(codes)
    nan = _quiet_nan(f)
    if nan is not None:
        codes = np.where(np.isnan(_wide(x)), np.uint8(nan), codes)
    return np.asarray(codes | _sign(x, f) if f.signed else codes, np.uint8)
