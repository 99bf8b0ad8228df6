"""Loops of single kernels on a CPU: fixed blocks that threads share, vectors within a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import prod

from tvm import tirx as tir

from ..plan.layout import Layout
from ..tir.expr import Code, Expr, Index, Vectors, i32, load, ramp
from ..tir.formats import MAGNITUDE
from ..tir.single.grid import Spot, flat, lanes_for, row_place
from ..tir.single.loops import Join, Terms

BLOCK = 16384  # elements that make a block worth a thread's while
MOST_BLOCKS = 64


@dataclass(frozen=True, eq=False, slots=True)
class CpuLoops:
    """See ``Loops``."""

    code: Code

    @property
    def aligned(self) -> bool:
        """See ``Loops``."""
        return False

    def over(
        self,
        shape: Sequence[int],
        dims: Sequence[int],
        lanes: int,
        body: Callable[[Spot], None],
        each: int = 1,
    ) -> None:
        """In the order of ``dims``; what remains of a row is done element by element."""
        side = dims[-1] if dims else -1
        length = shape[side] if dims else 1
        rows = prod(shape[d] for d in dims[:-1])
        lanes = lanes_for(length, lanes)
        vectors, singles = divmod(length, lanes)

        def some(at: dict[int, Expr], first: Index, count: Index, width: int) -> None:
            with self.code.loop(count) as j:
                place = {**at, side: first + j * i32(width)} if dims else at
                body(Spot(Vectors(self.code, width), place, side))

        if rows == 1 and length * each > BLOCK:
            at = row_place(i32(0), shape, dims)
            with self._blocks(vectors, lanes * each) as (first, count):
                some(at, first * i32(lanes), count, lanes)
            some(at, length - singles, singles, 1)
            return
        with self._blocks(rows, length * each) as (first, count), self.code.loop(count) as r:
            at = row_place(first + r, shape, dims)
            for n, width, start in ((vectors, lanes, 0), (singles, 1, length - singles)):
                if n:
                    some(at, i32(start), n, width)

    @contextmanager
    def _blocks(self, rows: int, length: int) -> Iterator[tuple[Expr, Expr]]:
        """First row, and rows, of each of the blocks that threads share; of the shape alone."""
        each = max(-(-BLOCK // max(length, 1)), -(-rows // MOST_BLOCKS), 1)
        with self.code.blocks(max(1, -(-rows // each))) as block:
            first = block * i32(each)
            yield first, tir.min(i32(each), i32(rows) - first)

    def rows(self, count: int, length: int, body: Callable[[Expr], None]) -> None:
        """In blocks."""
        with self._blocks(count, length) as (first, some), self.code.loop(some) as r:
            body(first + r)

    def total(
        self,
        layouts: Sequence[Layout],
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float = 0.0,
    ) -> list[Expr]:
        """Fixed blocks of elements keep a vector each."""
        code, elements = self.code, layouts[0].type.elements
        lanes = lanes if flat(layouts) else 1
        blocks = max(1, min(MOST_BLOCKS, -(-elements // BLOCK)))
        each = -(-elements // blocks // lanes) * lanes
        size = len(joins) * (lanes + 1)
        with code.workspace("float64", blocks * size) as partial:
            with code.blocks(blocks) as block:
                first = tir.min(block * i32(each), i32(elements))
                count = tir.min(first + i32(each), i32(elements)) - first
                sums = self._vectors(first, count, lanes, terms, joins, start)
                for i, (vector, single) in enumerate(sums):
                    at = block * i32(size) + i32(i * (lanes + 1))
                    code.store(partial, ramp(at, lanes), load(vector, ramp(0, lanes)))
                    code.store(partial, at + i32(lanes), load(single, i32(0)))
            return [
                self._joined(partial, blocks, size, i * (lanes + 1), lanes + 1, join, start)
                for i, join in enumerate(joins)
            ]

    def _joined(
        self,
        partial: Expr,
        blocks: int,
        size: int,
        first: int,
        count: int,
        join: Join,
        start: float,
    ) -> Expr:
        """The numbers of all blocks, ``count`` each, in their order."""
        code, result = self.code, self.code.local("float64", 1)
        code.store(result, i32(0), tir.const(start, "float64"))
        with code.loop(blocks) as block, code.loop(count) as lane:
            x = load(partial, block * i32(size) + i32(first) + lane)
            code.store(result, i32(0), join(load(result, i32(0)), x))
        return code.fence(load(result, i32(0)), "float64", 1)

    def line(
        self,
        count: int,
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float = 0.0,
        first: Index = 0,
    ) -> list[Expr]:
        """A vector, the elements behind the last one, then across the lanes."""
        first = i32(first) if isinstance(first, int) else first
        made = []
        sums = self._vectors(first, i32(count), lanes, terms, joins, start)
        for (vector, single), join in zip(sums, joins, strict=True):
            with self.code.loop(lanes) as lane:
                joined = join(load(single, i32(0)), load(vector, lane))
                self.code.store(single, i32(0), joined)
            made.append(self.code.fence(load(single, i32(0)), "float64", 1))
        return made

    def _vectors(
        self,
        first: Expr,
        count: Expr,
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float,
    ) -> list[tuple[Expr, Expr]]:
        """For each term a vector, and the number of what stands behind the last one."""
        code, sums = self.code, []
        for _ in joins:
            pair = code.local("float64", lanes), code.local("float64", 1)
            for buffer, n in zip(pair, (lanes, 1), strict=True):
                code.store(buffer, ramp(0, n), Vectors(code, n, "float64").splat(start))
            sums.append(pair)

        def take(s: Spot, which: int) -> None:
            everything = ramp(0, s.v.lanes)
            for x, join, pair in zip(terms(s), joins, sums, strict=True):
                code.store(pair[which], everything, join(load(pair[which], everything), x))

        vectors = tir.floordiv(count, i32(lanes))
        with code.loop(vectors) as j:
            take(Spot(Vectors(code, lanes), {0: first + j * i32(lanes)}, 0), 0)
        if lanes > 1:
            with code.loop(count - vectors * i32(lanes)) as j:
                take(Spot(Vectors(code, 1), {0: first + vectors * i32(lanes) + j}, 0), 1)
        return sums

    def largest(self, values: Sequence[tuple[Expr, Layout]], lanes: int) -> Expr:
        """One value after another, in vectors."""
        code, worst = self.code, self.code.local("uint32", lanes)
        code.store(worst, ramp(0, lanes), Vectors(code, lanes).u(0))
        for buffer, layout in values:
            whole, rest = divmod(layout.type.elements, lanes)
            for count, width, start in ((whole, lanes, 0), (rest, 1, whole * lanes)):
                if count:
                    with code.loop(count) as i:
                        v, first = Vectors(code, width), i32(start) + i * i32(width)
                        x = Spot(v, {0: first}, 0).number(buffer, layout, {0: 1})
                        size, place = v.bits(x) & v.u(MAGNITUDE), ramp(0, width)
                        code.store(worst, place, tir.max(load(worst, place), size))
        with code.loop(lanes) as lane:
            code.store(worst, i32(0), tir.max(load(worst, i32(0)), load(worst, lane)))
        return load(worst, i32(0))

    def table(
        self, dtype: str, numbers: Sequence[float]
    ) -> AbstractContextManager[Callable[[Expr], Expr]]:
        """See ``Dialect.table``."""
        return self.code.table(dtype, numbers)
