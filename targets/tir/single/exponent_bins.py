"""Where a number is counted by its exponent, see ``exponents`` in the IR."""

from __future__ import annotations

from tvm import tirx as tir

from ..expr import Expr, Vectors, typed
from ..formats import INFINITY, MAGNITUDE


def bin_of(x: Expr, v: Vectors) -> Expr:
    """The bin of each f32: its exponent field, one more unless it is 0, another one for NaN."""
    size = v.code.let(v.signed(v.bits(x) & v.u(MAGNITUDE)), typed("int32", v.lanes))
    above = v.where(size > v.i(INFINITY), v.i(1), v.i(0))
    some = v.where(size > v.i(0), v.i(1), v.i(0))
    return tir.shift_right(size, v.i(23)) + above + some
