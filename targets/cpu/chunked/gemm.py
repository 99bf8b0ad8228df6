"""GEMM kernels with an accumulator: plain loops, a vector of results at a time.

Operands become f32 in scratch memory, ahead of loops in which each product is added and rounded.

    forward, dX   lanes are images; dX is a forward over dY with zeros between and around its places
    dW            lanes are channels of dY

A table says where the number of product ``t`` lies, from the place of the first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ....compiler.ir.accumulation import Accumulation
from ...gemm.shapes import shape4
from ...tir.expr import Code, Expr, Vectors, i32, load, typed
from ..dialect import function
from ..gemm.epilogue import GemmBuffers
from ..gemm.spec import GemmSpec
from ..gemm.vectors import split
from .frame import BorderedAxis, Results, axes, lanes_of, numbers
from .sum import chunked_sums

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

# Sums at once, at most: the additions of one do not wait for those of another.
SUMS = 8


def build_chunked(spec: GemmSpec) -> PrimFunc:
    """The function of a GEMM with an accumulator."""
    how = spec.accumulation
    assert how is not None

    def body(code: Code, slots: list[Expr]) -> None:
        buffers = GemmBuffers.of(spec, slots)
        if spec.direction == "weight_grad":
            _ChunkedWeightGrad.of(code, spec, how).emit(buffers)
        else:
            _ChunkedTaps.of(code, spec, how).emit(buffers)

    return function(spec.parameters, body)


def _divisor(n: int) -> int:
    return next(d for d in range(SUMS, 0, -1) if n % d == 0)


@dataclass(frozen=True, eq=False, slots=True)
class _ChunkedTaps:
    """Forward and dX; ``summed`` and ``kept`` are channels of a group."""

    code: Code
    spec: GemmSpec
    how: Accumulation
    rows: BorderedAxis
    columns: BorderedAxis
    taps: tuple[int, int]
    summed: int
    kept: int
    lanes: int

    @classmethod
    def of(cls, code: Code, spec: GemmSpec, how: Accumulation) -> _ChunkedTaps:
        """Sizes of a GEMM."""
        images, channels, _, _ = shape4(spec.a)
        _, _, r, s = shape4(spec.b)
        summed, kept = channels // spec.groups, shape4(spec.out)[1] // spec.groups
        return cls(code, spec, how, *axes(spec), (r, s), summed, kept, lanes_of(spec, images))

    @property
    def padded(self) -> int:
        """Images in whole vectors."""
        return -(-shape4(self.spec.a)[0] // self.lanes) * self.lanes

    @property
    def length(self) -> int:
        """Products of a sum."""
        return prod(self.taps) * self.summed

    def number(self, n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        """Scratch place of an element of the plane."""
        return self.place(c * i32(self.rows.size) + self.rows.at(h), self.columns.at(w)) + n

    def place(self, row: Expr, column: Expr) -> Expr:
        """Scratch place of the first image's element."""
        return (row * i32(self.columns.size) + column) * i32(self.padded)

    def weight(self, k: Expr, c: Expr, r: Expr, s: Expr) -> Expr:
        """Scratch place of a weight: group, product, channel of the result."""
        forward = self.spec.direction == "forward"
        group, own = split(k, self.spec.groups, self.kept if forward else self.summed)
        of, to = (c, own) if forward else (own, c)
        product = (r * i32(self.taps[1]) + s) * i32(self.summed) + of
        return (group * i32(self.length) + product) * i32(self.kept) + to

    def emit(self, buffers: GemmBuffers) -> None:
        """Operands, table, and all results."""
        code, spec = self.code, self.spec
        channels = spec.groups * self.summed
        plane = channels * self.rows.size * self.columns.size * self.padded
        weights = spec.groups * self.length * self.kept
        with (
            numbers(code, buffers.a, spec.a, plane, self.number) as x,
            numbers(code, buffers.b, spec.b, weights, self.weight) as w,
            code.workspace("int32", self.length) as table,
        ):
            with code.loop(self.length) as t:
                r, s, c = split(t, *self.taps, self.summed)
                row = c * i32(self.rows.size) + r * i32(self.rows.tap)
                code.store(table, t, self.place(row, s * i32(self.columns.tap)))
            self._results(buffers, (x, w, table))

    def _results(self, buffers: GemmBuffers, scratch: tuple[Expr, Expr, Expr]) -> None:
        code, (images, made, height, width) = self.code, shape4(self.spec.out)
        sums, vectors = _divisor(self.kept), self.padded // self.lanes
        with code.blocks(made // sums * height) as job, code.loop(width * vectors) as i:
            block, h = split(job, made // sums, height)
            w, some = split(i, width, vectors)
            first = code.let(block * i32(sums), "int32")
            image = some * i32(self.lanes)
            v = Vectors(code, self.lanes)
            totals = self._sums(v, scratch, (image, first, h, w))
            for j, total in enumerate(totals):
                at = {0: image, 1: first + i32(j), 2: h, 3: w}
                Results(v, self.spec, buffers).put(total, at, i32(images) - image)

    def _sums(
        self, v: Vectors, scratch: tuple[Expr, Expr, Expr], at: tuple[Expr, Expr, Expr, Expr]
    ) -> list[Expr]:
        code, (x, w, table), (image, first, h, column) = self.code, scratch, at
        sums = _divisor(self.kept)
        group, own = split(first, self.spec.groups, self.kept)
        row = group * i32(self.summed * self.rows.size) + h * i32(self.rows.step)
        side = column * i32(self.columns.step) + i32(self.columns.origin)
        start = code.let(self.place(row + i32(self.rows.origin), side) + image, "int32")
        weights = code.let(group * i32(self.length * self.kept) + own, "int32")

        def products(t: Expr) -> list[Expr]:
            place = code.let(start + load(table, t), "int32")
            seen = code.let(load(x, place, v.lanes), typed("float32", v.lanes))
            row = weights + t * i32(self.kept)
            return [seen * v.splat(load(w, row + i32(j))) for j in range(sums)]

        return chunked_sums(v, self.how, self.length, sums, products)


@dataclass(frozen=True, eq=False, slots=True)
class _ChunkedWeightGrad:
    """dW; ``kept`` and ``own`` are channels of dY and x in a group."""

    code: Code
    spec: GemmSpec
    how: Accumulation
    rows: BorderedAxis
    columns: BorderedAxis
    kept: int
    own: int
    lanes: int

    @classmethod
    def of(cls, code: Code, spec: GemmSpec, how: Accumulation) -> _ChunkedWeightGrad:
        """Sizes of a GEMM."""
        kept, own = (shape4(side)[1] // spec.groups for side in (spec.a, spec.b))
        return cls(code, spec, how, *axes(spec), kept, own, lanes_of(spec, kept))

    @property
    def padded(self) -> int:
        """Channels of dY in a group, in whole vectors."""
        return -(-self.kept // self.lanes) * self.lanes

    @property
    def length(self) -> int:
        """Products of a sum."""
        images, _, height, width = shape4(self.spec.a)
        return images * height * width

    @property
    def results(self) -> int:
        """Results for each channel of dY."""
        return self.own * prod(shape4(self.spec.out)[2:])

    def gradient(self, n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        """Scratch place of an element of dY: group, product, channel."""
        _, _, height, width = shape4(self.spec.a)
        group, lane = split(k, self.spec.groups, self.kept)
        product = (n * i32(height) + h) * i32(width) + w
        return (group * i32(self.length) + product) * i32(self.padded) + lane

    def number(self, n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        """Scratch place of an element of x."""
        images = shape4(self.spec.b)[0]
        row = (c * i32(images) + n) * i32(self.rows.size) + self.rows.at(h)
        return row * i32(self.columns.size) + self.columns.at(w)

    def emit(self, buffers: GemmBuffers) -> None:
        """Operands, table, and all results."""
        code, spec = self.code, self.spec
        images, channels, _, _ = shape4(spec.b)
        plane = channels * images * self.rows.size * self.columns.size
        vectors = spec.groups * self.length * self.padded
        with (
            numbers(code, buffers.a, spec.a, vectors, self.gradient) as g,
            numbers(code, buffers.b, spec.b, plane, self.number) as x,
            code.workspace("int32", self.length) as table,
        ):
            with code.loop(self.length) as t:
                n, h, w = split(t, images, *shape4(spec.a)[2:])
                row = n * i32(self.rows.size) + h * i32(self.rows.step)
                code.store(table, t, row * i32(self.columns.size) + w * i32(self.columns.step))
            self._results(buffers, (g, x, table))

    def _results(self, buffers: GemmBuffers, scratch: tuple[Expr, Expr, Expr]) -> None:
        code, spec, taps = self.code, self.spec, shape4(self.spec.out)[2:]
        sums, vectors = _divisor(self.results), self.padded // self.lanes
        extents = (spec.groups, vectors, self.results // sums)
        with code.blocks(prod(extents)) as job:
            group, some, block = split(job, *extents)
            v, lane = Vectors(code, self.lanes), some * i32(self.lanes)
            spots = [split(block * i32(sums) + i32(j), self.own, *taps) for j in range(sums)]
            totals = self._sums(v, scratch, (group, lane), spots)
            for (c, r, s), total in zip(spots, totals, strict=True):
                at = {0: group * i32(self.kept) + lane, 1: c, 2: r, 3: s}
                Results(v, spec, buffers).put(total, at, i32(self.kept) - lane)

    def _sums(
        self,
        v: Vectors,
        scratch: tuple[Expr, Expr, Expr],
        at: tuple[Expr, Expr],
        spots: list[list[Expr]],
    ) -> list[Expr]:
        code, (g, x, table), (group, lane) = self.code, scratch, at
        images = shape4(self.spec.b)[0]
        starts = []
        for c, r, s in spots:
            channel = group * i32(self.own) + c
            row = channel * i32(images * self.rows.size) + r * i32(self.rows.tap)
            place = row * i32(self.columns.size) + s * i32(self.columns.tap)
            starts.append(code.let(place, "int32"))
        vectors = code.let(group * i32(self.length * self.padded) + lane, "int32")

        def products(t: Expr) -> list[Expr]:
            place = code.let(load(table, t), "int32")
            row = load(g, vectors + t * i32(self.padded), v.lanes)
            gradient = code.let(row, typed("float32", v.lanes))
            return [gradient * v.splat(load(x, start + place)) for start in starts]

        return chunked_sums(v, self.how, self.length, len(spots), products)
