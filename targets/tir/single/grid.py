"""Places of elements in kernels that are no fused group: in a box, as vectors along one side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.formats import Format
from ...plan.layout import Layout
from ..expr import Expr, Vectors, i32, load, ramp, typed
from ..formats import from_memory, round_carrier, to_memory
from ..pointwise.space import memory_dims, memory_strides
from .spec import Single as Single  # exported


def index_of(at: Mapping[int, Expr], strides: Mapping[int, int], start: int = 0) -> Expr:
    """The index of the element at a place along each dimension."""
    offset: Expr = i32(start)
    for d, place in at.items():
        if strides.get(d, 0):
            offset = offset + place * i32(strides[d])
    return offset


@dataclass(frozen=True, eq=False, slots=True)
class Spot:
    """``v.lanes`` elements of a box: the place along each dimension, of lane 0 along ``side``."""

    v: Vectors
    at: Mapping[int, Expr]
    side: int

    def index(self, strides: Mapping[int, int], start: int = 0) -> Expr:
        """The index, or ramp, of these elements for a stride along each dimension."""
        offset = index_of(self.at, strides, start)
        return ramp(offset, self.v.lanes, strides.get(self.side, 0))

    def raw(self, buffer: Expr, dtype: str, strides: Mapping[int, int], start: int = 0) -> Expr:
        """Load elements as they are stored; the same one in all lanes where the side has none."""
        index = self.index(strides, start)
        if self.v.lanes > 1 and not strides.get(self.side, 0):
            one = Spot(Vectors(self.v.code, 1), self.at, self.side)
            return self.v.splat(one.raw(buffer, dtype, strides, start))
        return self.v.code.let(load(buffer, index), typed(dtype, self.v.lanes))

    def number(
        self, buffer: Expr, layout: Layout, strides: Mapping[int, int] | None = None, start: int = 0
    ) -> Expr:
        """Load numbers of a carrier as an f32 name."""
        strides = memory_strides(layout) if strides is None else strides
        raw = self.raw(buffer, layout.dtype, strides, start)
        return self.v.f(from_memory(self.v, raw, layout.type.format))

    def put(
        self,
        buffer: Expr,
        layout: Layout,
        x: Expr,
        strides: Mapping[int, int] | None = None,
        start: int = 0,
    ) -> None:
        """Round an f32 name to the format of a carrier and store it."""
        strides = memory_strides(layout) if strides is None else strides
        stored = rounded(self.v, x, layout.type.format)
        self.v.code.store(buffer, self.index(strides, start), stored)


def rounded(v: Vectors, x: Expr, f: Format) -> Expr:
    """What a carrier stores of an f32 name."""
    return to_memory(v, round_carrier(v, x, f), f)


def lanes_for(size: int, lanes: int) -> int:
    """Lanes of vectors along a side: most, if they leave no remainder, else all there are."""
    best = min(lanes, size & -size) if size else 1
    while lanes > max(size, 1):
        lanes //= 2
    return best if best * 2 >= lanes else lanes


def row_place(r: Expr, shape: Sequence[int], dims: Sequence[int]) -> dict[int, Expr]:
    """The place of row ``r`` along each of ``dims`` but the last."""
    at: dict[int, Expr] = {}
    inner = 1
    outer = list(dims[:-1])
    for d in reversed(outer):
        place = tir.floordiv(r, i32(inner))
        at[d] = place if d == outer[0] else tir.floormod(place, i32(shape[d]))
        inner *= shape[d]
    return at


def natural(layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...], dict[int, int]]:
    """Shape, order of dimensions and strides of a value, to run over it as it lies in memory."""
    return layout.type.shape, memory_dims(layout), memory_strides(layout)


def flat(layouts: Sequence[Layout]) -> bool:
    """Whether unpacked values of one shape lie in memory in one order."""
    orders = {tuple(d for d in memory_dims(x) if x.type.shape[d] > 1) for x in layouts}
    return len(orders) <= 1
