"""What reductions in f64 are made of."""

from __future__ import annotations

from collections.abc import Sequence

from ...plan.layout import Layout
from ..expr import Expr, Vectors
from ..formats import from_memory
from ..pointwise.space import memory_dims, memory_strides
from .grid import Spot, flat
from .shape import unravel


def add(a: Expr, b: Expr) -> Expr:
    """a + b"""
    return a + b


def wide(v: Vectors) -> Vectors:
    """The same lanes in f64."""
    return Vectors(v.code, v.lanes, "float64")


def read(s: Spot, buffer: Expr, layout: Layout, layouts: Sequence[Layout]) -> Expr:
    """The f32 numbers of a carrier at elements counted in the memory order of ``layouts[0]``."""
    if flat(layouts):
        raw = s.raw(buffer, layout.dtype, {0: 1})
    else:
        dims, shape = memory_dims(layouts[0]), layouts[0].type.shape
        places = unravel(s.at[0], tuple(shape[d] for d in dims))
        at = {d: places[i] for i, d in enumerate(dims)}
        raw = Spot(s.v, at, -1).raw(buffer, layout.dtype, memory_strides(layout))
    return s.v.f(from_memory(s.v, raw, layout.type.format))
