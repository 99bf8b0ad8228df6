"""Rounding to the 16-bit floats of accumulators, in generated code."""

from __future__ import annotations

from tvm import tirx as tir

from ...compiler.formats import F16, HalfFloat
from .expr import Expr, Vectors
from .formats import INFINITY, SIGN, f32_bits, round_carrier


def rounded(v: Vectors, x: Expr, to: HalfFloat) -> Expr:
    """The number of a 16-bit float nearest to an f32 name."""
    f = to.format
    if f == F16:
        return round_carrier(v, x, f)
    assert f.radix == 2 and f.shift == 1 and not f.subnormals, f"{f} has no arithmetic rounding"
    shift = 23 - f.man
    size = v.hold(v.bits(x) & v.u(0x7FFFFFFF))
    odd = (size >> v.u(shift)) & v.u(1)
    whole = (size + (odd + v.u((1 << (shift - 1)) - 1))) & v.u(0xFFFFFFFF << shift & 0xFFFFFFFF)
    whole = v.hold(whole)
    small = v.where(
        size > v.u(f32_bits(to.least / 2)), tir.max(whole, v.u(f32_bits(to.least))), v.u(0)
    )
    # NaN is what lies above infinity, and stays.
    large = tir.max(size, v.u(INFINITY))
    number = v.where(whole > v.u(f32_bits(to.top)), large, small)
    return v.f(v.to_f(number | (v.bits(x) & v.u(SIGN))))
