"""Loops of kernels that are no fused group: over a box of elements, as vectors along one side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from tvm import tirx as tir

from ....compiler.formats import Format
from ...plan.layout import Layout
from ..expr import Code, Expr, Index, Vectors, i32, load, ramp, typed
from ..formats import from_memory, round_carrier, to_memory
from ..pointwise.space import memory_dims, memory_strides
from .spec import Single as Single  # exported

BLOCK = 16384  # elements that make a block worth a thread's while
MOST_BLOCKS = 64


@dataclass(frozen=True, eq=False, slots=True)
class Buffers:
    """The buffers of a single kernel: data of operands and results, and their scales."""

    code: Code
    inputs: Sequence[Expr]
    outputs: Sequence[Expr]
    input_scales: Mapping[int, Expr]
    output_scales: Mapping[int, Expr]


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


def over(
    code: Code,
    shape: Sequence[int],
    dims: Sequence[int],
    lanes: int,
    body: Callable[[Spot], None],
) -> None:
    """Run ``body`` over a box in the order of ``dims``, in fixed blocks of rows in parallel.

    Vectors lie along the last of ``dims``; what remains of a row is done element by element.
    """
    side = dims[-1] if dims else -1
    length = shape[side] if dims else 1
    rows = prod(shape[d] for d in dims[:-1])
    lanes = lanes_for(length, lanes)
    vectors, singles = divmod(length, lanes)

    def some(at: dict[int, Expr], first: Index, count: Index, width: int) -> None:
        with code.loop(count) as j:
            place = {**at, side: first + j * i32(width)} if dims else at
            body(Spot(Vectors(code, width), place, side))

    if rows == 1 and length > BLOCK:
        at = row_place(i32(0), shape, dims)
        with _blocks(code, vectors, lanes) as (first, count):
            some(at, first * i32(lanes), count, lanes)
        some(at, length - singles, singles, 1)
        return
    with _blocks(code, rows, length) as (first, count), code.loop(count) as r:
        at = row_place(first + r, shape, dims)
        for n, width, start in ((vectors, lanes, 0), (singles, 1, length - singles)):
            if n:
                some(at, i32(start), n, width)


@contextmanager
def _blocks(code: Code, rows: int, length: int) -> Iterator[tuple[Expr, Expr]]:
    """First row, and rows, of each of the blocks that threads share."""
    block_rows, blocks = row_blocks(rows, length)
    with code.blocks(blocks) as block:
        first = block * i32(block_rows)
        yield first, tir.min(i32(block_rows), i32(rows) - first)


def row_blocks(rows: int, length: int) -> tuple[int, int]:
    """Rows a block, and blocks, of the shape alone."""
    block_rows = max(-(-BLOCK // max(length, 1)), -(-rows // MOST_BLOCKS), 1)
    return block_rows, max(1, -(-rows // block_rows))


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
