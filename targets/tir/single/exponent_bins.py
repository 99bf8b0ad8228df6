"""Where a number is counted by its exponent, see ``exponents`` in the IR."""

from __future__ import annotations

from tvm import tirx as tir

from ..expr import Expr, Vectors, i32
from ..formats import INFINITY, MAGNITUDE


def bin_of(x: Expr, v: Vectors) -> Expr:
    """The bin of an f32: its exponent field, one more unless it is 0, another one for NaN."""
    size = v.code.let(v.signed(v.bits(x) & v.u(MAGNITUDE)), "int32")
    field = tir.shift_right(size, i32(23))
    above = tir.Select(size > i32(INFINITY), i32(1), i32(0))
    return v.code.let(field + above + tir.Select(size > i32(0), i32(1), i32(0)), "int32")
