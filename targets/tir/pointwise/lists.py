"""Formats that list their levels, at a point of a pointwise kernel: tables that it begins with.

A number is found by halving the list, four or eight comparisons in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ....compiler.formats import Format
from ...numbers.rounding import reaches
from ..expr import Expr, Vectors, typed

if TYPE_CHECKING:
    from .point import Frame

Table = Callable[[Expr], Expr]


@contextmanager
def lists(frame: Frame) -> Iterator[None]:
    """What the kernel looks up: the levels that it reads, and where those that it makes begin."""
    types, nodes = frame.spec.types, frame.spec.nodes
    read = {types[i].format for n in nodes for i in n.inputs if types[i].format.listed}
    made = {types[i].format for n in nodes for i in n.results if types[i].format.listed}
    with ExitStack() as stack:
        for f in sorted(read, key=str):
            frame.levels[f] = stack.enter_context(frame.code.table("float32", f.listed))
        for f in sorted(made, key=str):
            begins = (f.listed[0], *reaches(f))  # nobody asks for the first
            frame.begins[f] = stack.enter_context(frame.code.table("float32", begins))
        yield


def level_of(v: Vectors, code: Expr, table: Table) -> Expr:
    """The level of a u32 code."""
    return v.f(v.code.let(table(v.cast(code, "int32")), typed("float32", v.lanes)))


def nearest(v: Vectors, x: Expr, f: Format, table: Table) -> Expr:
    """The u32 code of an f32 name; 0 of NaN, which reaches nothing."""
    code, step = v.u(0), 1 << (f.bits - 1)
    while step:
        above = v.hold(code + v.u(step))
        begin = v.code.let(table(v.cast(above, "int32")), typed("float32", v.lanes))
        code = v.hold(v.where(x >= begin, above, code))
        step >>= 1
    return code
