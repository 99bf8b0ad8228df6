"""Sums and maxima over a flat array, the same for any number of threads.

The array is cut into blocks by its length alone; each lane of a block adds in f64, lanes and then
blocks join in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx as tir

from .tvm_expr import PARALLEL, SERIAL, Expr, Vectors, i32, load, ramp
from .tvm_single_frame import CHUNK, Frame

Terms = Callable[[Vectors, Expr], Sequence[Expr]]


@dataclass(frozen=True, eq=False)
class Total:
    """Reduces ``count`` terms an element at once; ``largest`` takes maxima instead of sums."""

    frame: Frame
    size: int
    count: int
    largest: bool = False

    def run(self, terms: Terms, use: Callable[[Sequence[Expr]], None]) -> None:
        """Evaluate ``terms`` (f32 or f64, at a width and a first index) everywhere.

        ``use`` gets the results, f64 scalars; a maximum of nothing is 0.
        """
        code, blocks = self.frame.code, max(1, -(-self.size // CHUNK))
        with code.workspace("float64", blocks * self.count) as partial:
            with code.loop(blocks, PARALLEL if blocks > 1 else SERIAL) as block:
                self._block(terms, block, partial)
            totals = [code.local("float64", 1) for _ in range(self.count)]
            for total in totals:
                code.store(total, i32(0), tir.const(0.0, "float64"))
            with code.loop(blocks) as block:
                for k, total in enumerate(totals):
                    self._take(total, load(partial, block * i32(self.count) + i32(k)), 1)
            use([code.let(load(t, i32(0)), "float64") for t in totals])

    def _block(self, terms: Terms, block: Expr, partial: Expr) -> None:
        code, lanes = self.frame.code, self.frame.lanes
        start = block * i32(CHUNK)
        length = tir.min(i32(CHUNK), i32(self.size) - start)
        sums = {n: [code.local("float64", n) for _ in range(self.count)] for n in (lanes, 1)}
        for n, buffers in sums.items():
            for buffer in buffers:
                code.store(buffer, ramp(0, n), Vectors(code, n).splat(0.0, "float64"))
        whole = tir.floordiv(length, i32(lanes))
        with code.loop(whole) as j:
            self._add(terms, Vectors(code, lanes), start + j * i32(lanes), sums[lanes])
        with code.loop(length - whole * i32(lanes)) as j:
            self._add(terms, Vectors(code, 1), start + whole * i32(lanes) + j, sums[1])
        for k in range(self.count):
            with code.loop(lanes) as lane:
                self._take(sums[1][k], load(sums[lanes][k], lane), 1)
            code.store(partial, block * i32(self.count) + i32(k), load(sums[1][k], i32(0)))

    def _add(self, terms: Terms, v: Vectors, first: Expr, sums: Sequence[Expr]) -> None:
        for buffer, x in zip(sums, terms(v, first), strict=True):
            self._take(buffer, v.cast(x, "float64"), v.lanes)

    def _take(self, buffer: Expr, x: Expr, lanes: int) -> None:
        old = load(buffer, ramp(0, lanes))
        new = tir.max(old, x) if self.largest else old + x
        self.frame.code.store(buffer, ramp(0, lanes), new)
