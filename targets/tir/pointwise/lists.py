"""Formats that list their levels, at a point of a pointwise kernel: what is looked up in tables.

A number is found by halving the list, four or eight comparisons in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ....compiler.formats import Format
from ..expr import Expr, Vectors, typed

Table: TypeAlias = Callable[[Expr], Expr]


def level_of(v: Vectors, code: Expr, levels: Table) -> Expr:
    """The level of a u32 code."""
    return v.f(v.code.let(levels(v.cast(code, "int32")), typed("float32", v.lanes)))


def nearest(v: Vectors, x: Expr, f: Format, begins: Table) -> Expr:
    """The u32 code of an f32 name; 0 of NaN, which reaches nothing."""
    code, step = v.u(0), 1 << (f.bits - 1)
    while step:
        above = v.hold(code + v.u(step))
        begin = v.code.let(begins(v.cast(above, "int32")), typed("float32", v.lanes))
        code = v.hold(v.where(x >= begin, above, code))
        step >>= 1
    return code
