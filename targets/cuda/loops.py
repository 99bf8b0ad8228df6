"""Loops of single kernels on a GPU: a launch for each, elements by threads, rows by blocks.

A rule is run once for every launch; of its loops one is written each time, and ends it where what
stands behind needs all of them: a reduction takes a launch to leave a number a block, and one that
joins those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod

from tvm import tirx as tir

from ..plan.layout import Layout
from ..tir.expr import Expr, Index, Vectors, i32, load
from ..tir.formats import MAGNITUDE
from ..tir.single.grid import Spot, lanes_for, row_place
from ..tir.single.loops import Join, Terms
from .code import DeviceCode

WARP, THREADS = 32, 256
TURNS = 4  # elements a thread, of the smallest kernels that are worth more than one block
MOST_BLOCKS = 1024  # that leave a number each, for one block to join


class Finished(Exception):
    """The launch ends here."""


class DeviceLoops:
    """See ``Loops``: writes launch number ``live`` of a rule; ``scratch`` is f64 between launches.

    ``launches`` counts those that the rule needs, as far as it ran.
    """

    def __init__(self, code: DeviceCode, scratch: Expr | None, live: int) -> None:
        self._code, self._scratch, self._live = code, scratch, live
        self.launches = 0

    @property
    def code(self) -> DeviceCode:
        """See ``Loops``."""
        return self._code

    @property
    def aligned(self) -> bool:
        """See ``Loops``."""
        return True

    def over(
        self,
        shape: Sequence[int],
        dims: Sequence[int],
        lanes: int,
        body: Callable[[Spot], None],
        each: int = 1,
    ) -> None:
        """Neighbours by neighbouring threads, as vectors where they leave no single elements."""
        if not self._turn():
            return
        side = dims[-1] if dims else -1
        length = shape[side] if dims else 1
        width = lanes_for(length, min(lanes, 4))
        width = width if length % width == 0 else 1
        columns = length // width
        count = columns * prod(shape[d] for d in dims[:-1])
        with self._elements(count, TURNS if each == 1 else 1) as e:
            at = row_place(tir.floordiv(e, i32(columns)), shape, dims)
            if dims:
                at[side] = tir.floormod(e, i32(columns)) * i32(width)
            body(Spot(Vectors(self.code, width), at, side))

    @contextmanager
    def _elements(self, count: int, turns: int = TURNS) -> Iterator[Expr]:
        """0 .. count - 1 over all threads of the grid, each of which has some turns."""
        code = self.code
        code.grid = max(1, -(-count // (code.threads * turns)))
        step = code.grid * code.threads
        with code.alone(None), code.loop(-(-count // step)) as turn:
            e = code.let(turn * i32(step) + code.block * i32(code.threads) + code.thread, "int32")
            with code.when(e < i32(count)):
                yield e

    def _turn(self) -> bool:
        """Whether the next launch is the one to write."""
        self.launches += 1
        return self.launches - 1 == self._live

    def total(
        self,
        layouts: Sequence[Layout],
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float = 0.0,
    ) -> list[Expr]:
        """A number a block, then all of those; where a rule goes on, in its later launches."""
        return self._all([(layouts[0].type.elements, terms)], joins, start)

    def largest(self, values: Sequence[tuple[Expr, Layout]], lanes: int) -> Expr:
        """All values in one launch; bit patterns are exact in f64."""

        def size(buffer: Expr, layout: Layout) -> Terms:
            def term(s: Spot) -> list[Expr]:
                bits = s.v.bits(s.number(buffer, layout, {0: 1})) & s.v.u(MAGNITUDE)
                return [s.v.cast(bits, "float64")]

            return term

        pieces = [(layout.type.elements, size(buffer, layout)) for buffer, layout in values]
        (bits,) = self._all(pieces, [tir.max], 0.0)
        v = Vectors(self.code, 1)
        return v.hold(v.cast(bits, "uint32"))

    def _all(
        self, pieces: Sequence[tuple[int, Terms]], joins: Sequence[Join], start: float
    ) -> list[Expr]:
        most = max(count for count, _ in pieces)
        blocks = min(MOST_BLOCKS, max(1, -(-most // (THREADS * TURNS))))
        leaves = self.launches == self._live
        self.launches += 2
        if leaves:
            self._leave_numbers(blocks, pieces, joins, start)
            raise Finished
        return self._join_numbers(blocks, joins, start)

    def _leave_numbers(
        self,
        blocks: int,
        pieces: Sequence[tuple[int, Terms]],
        joins: Sequence[Join],
        start: float,
    ) -> None:
        code = self.code
        sums = self._empty(joins, start)
        step = blocks * code.threads
        code.grid = blocks
        with code.alone(None):
            for count, terms in pieces:
                with code.loop(-(-count // step)) as turn:
                    first = turn * i32(step) + code.block * i32(code.threads)
                    e = code.let(first + code.thread, "int32", "at")
                    with code.when(e < i32(count)):
                        self._take(Spot(Vectors(code, 1), {0: e}, 0), terms, joins, sums)
            made = [
                code.tree(load(x, i32(0)), "float64", join)
                for x, join in zip(sums, joins, strict=True)
            ]
            with code.when(code.thread.equal(i32(0))):
                for i, x in enumerate(made):
                    code.store(self._partial(), code.block + i32(i * blocks), x)

    def _join_numbers(self, blocks: int, joins: Sequence[Join], start: float) -> list[Expr]:
        code, sums = self.code, self._empty(joins, start)
        with code.strided(blocks) as block:
            for i, (join, x) in enumerate(zip(joins, sums, strict=True)):
                number = load(self._partial(), block + i32(i * blocks))
                code.store(x, i32(0), join(load(x, i32(0)), number))
        return [
            code.tree(load(x, i32(0)), "float64", join) for x, join in zip(sums, joins, strict=True)
        ]

    def _partial(self) -> Expr:
        assert self._scratch is not None, "a kernel that reduces needs scratch"
        return self._scratch

    def _empty(self, joins: Sequence[Join], start: float) -> list[Expr]:
        """What each thread starts with."""
        made = []
        for _ in joins:
            made.append(self.code.local("float64", 1))
            self.code.store(made[-1], i32(0), tir.const(start, "float64"))
        return made

    def _take(self, s: Spot, terms: Terms, joins: Sequence[Join], sums: Sequence[Expr]) -> None:
        for x, join, sum_ in zip(terms(s), joins, sums, strict=True):
            self.code.store(sum_, i32(0), join(load(sum_, i32(0)), x))

    def rows(self, count: int, length: int, body: Callable[[Expr], None]) -> None:
        """A block each."""
        if self._turn():
            self.code.grid = count
            self.code.threads = min(THREADS, max(WARP, 1 << (length - 1).bit_length()))
            with self.code.alone(self.code.thread.equal(i32(0))):
                body(self.code.block)

    def line(
        self,
        count: int,
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float = 0.0,
        first: Index = 0,
    ) -> list[Expr]:
        """By the threads of the block."""
        sums = self._empty(joins, start)
        with self.code.turns(count) as k:
            self._take(Spot(Vectors(self.code, 1), {0: first + k}, 0), terms, joins, sums)
        return [
            self.code.tree(load(x, i32(0)), "float64", join)
            for x, join in zip(sums, joins, strict=True)
        ]

    def table(
        self, dtype: str, numbers: Sequence[float]
    ) -> AbstractContextManager[Callable[[Expr], Expr]]:
        """See ``Dialect.table``."""
        return self.code.table(dtype, numbers)
