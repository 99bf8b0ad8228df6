"""One thread's part of the rows of a pointwise kernel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

from tvm import tirx as tir

from ...tir.expr import Expr, Vectors, i32, load, packed_place, ramp, typed
from ...tir.pointwise.ops import RULES
from ...tir.pointwise.parts import Parts
from ...tir.pointwise.point import Frame, Point
from ...tir.pointwise.prologue import (
    channel_constants,
    compute_scalars,
    lists,
    only_first,
    store_scales,
)
from ...tir.pointwise.space import STRIPE
from ...tir.pointwise.squeeze import tables
from ...tir.pointwise.tails import channel_tails, lane_tails
from ..code import DeviceCode
from .geometry import PointwiseGrid
from .rowed import RowCodes
from .sums import Scratch, Sums

RowOf = Callable[[Expr], Expr]
"""The row of a line of threads in this turn."""


@dataclass(eq=False)
class Thread:
    """See ``PointwiseGrid``."""

    frame: Frame
    code: DeviceCode
    scratch: Scratch
    sums: Sums = field(init=False)

    @property
    def geometry(self) -> PointwiseGrid:
        """How threads share the kernel."""
        return self.scratch.geometry

    def run(self) -> None:
        """Append everything."""
        code, g, frame = self.code, self.geometry, self.frame
        code.grid = g.tall * g.wide
        compute_scalars(frame)
        store_scales(frame)
        with ExitStack() as stack:
            stack.enter_context(channel_constants(frame, 1))
            stack.enter_context(tables(frame, 1))
            stack.enter_context(lists(frame))
            stack.enter_context(code.alone(None))
            self.sums = Sums(code, self.scratch, channel_tails(frame), lane_tails(frame))
            self.codes = RowCodes(frame, code, g) if g.padded else None
            block = tir.floordiv(code.block, i32(g.wide))
            side = tir.floormod(code.block, i32(g.wide))
            line = code.let(tir.floordiv(code.thread, i32(g.across)), "int32", "line")
            at = side * i32(g.across) + tir.floormod(code.thread, i32(g.across))
            self.line, self.column = line, code.let(at, "int32", "column")
            self.first = code.let(block * i32(g.down), "int32", "first")
            mine = code.thread < i32(g.across * g.down)
            self.mine = tir.all(mine, self.column < i32(g.columns))
            first = only_first(frame)
            with code.when(first) if first is not None else nullcontext():
                (self._stripe if g.sums else self._rows)()
                self._rest()
            self.sums.store_block()

    def _rows(self) -> None:
        """Every so many rows, neighbours by neighbouring threads."""
        g = self.geometry
        step = g.tall * g.down
        with self.code.loop(-(-self.frame.space.rows // step)) as turn:
            self._turn(lambda d: turn * i32(step) + self.first + d, turn.equal(i32(0)))

    def _stripe(self) -> None:
        """32 rows one after the other, then what they add up to."""
        code, g = self.code, self.geometry
        with code.loop(STRIPE) as r:
            self._turn(lambda d: (self.first + d) * i32(STRIPE) + r, r.equal(i32(0)))
        stripe = self.first + self.line
        with code.when(tir.all(self.mine, stripe < i32(g.stripes))):
            self.sums.store_channels(stripe, self.column)

    def _turn(self, row_of: RowOf, first: Expr) -> None:
        """One row of each line of threads."""
        code, g = self.code, self.geometry
        if self.codes:
            self.codes.enter(self.line)
        with code.when(self.mine):
            row = code.let(row_of(self.line), "int32", "row")
            with code.when(row < i32(self.frame.space.rows)):
                if self.codes:
                    self._padded(row, first)
                elif g.parts > 1:
                    self._bytes(row, first)
                else:
                    self._finish(self._point(g.lanes, row, self.column * i32(g.lanes)), first)
        if self.codes:
            self.codes.pack(row_of)

    def _bytes(self, row: Expr, first: Expr) -> None:
        """All codes of bytes that are made; a byte with no more codes is read once for all."""
        g, points = self.geometry, []
        j = self.column * i32(g.lanes)
        bytes_ = Parts(self.frame, g.lanes, g.parts, row, j)
        for q in range(g.parts):
            p = self._point(g.lanes, row, j + i32(q * g.cell))
            p.part = self._either(p.part, bytes_.codes(q))
            self._finish(p, first)
            points.append(p)
        for i in self._stored(packed=True):
            bytes_.join(i, points)

    def _either(
        self, own: Callable[[int], Expr] | None, shared: Callable[[int], Expr]
    ) -> Callable[[int], Expr]:
        """Which of the two ways a packed operand is read."""
        spec, parts = self.frame.spec, self.geometry.parts
        assert own is not None
        return lambda i: (shared if spec.layout(i).parts <= parts else own)(i)

    def _padded(self, row: Expr, first: Expr) -> None:
        """Elements of a padded row, which may be longer than a block."""
        g = self.geometry
        for k in range(g.own):
            at = self.code.let(self.column + i32(k * g.across), "int32", "at")
            with self.code.when(at < i32(g.columns)):
                self.sums.turn = k
                self._finish(self._point(1, row, at), first)

    def _rest(self) -> None:
        """The elements behind the last vector of a flat space, by the first threads."""
        code, space = self.code, self.frame.space
        if space.rest:
            mine = tir.all(code.thread < i32(space.rest), code.block.equal(i32(0)))
            with code.when(mine):
                always = i32(0).equal(i32(0))
                self._finish(self._point(1, i32(space.rows), code.thread), always)

    def _point(self, lanes: int, row: Expr, first: Expr) -> Point:
        """A fresh point, which takes its own codes out of the bytes that are read."""
        p = Point(self.frame, Vectors(self.code, lanes), row, first, RULES)
        p.part = lambda value: self._code_of(p, value)
        return p

    def _code_of(self, p: Point, value: int) -> Expr:
        """The codes of a packed operand; all lanes have their code at one place of their bytes."""
        layout, v = self.frame.spec.layout(value), p.v
        part, j = packed_place(p.first, layout.cell, layout.parts)
        raw = load(self.frame.data[value], ramp(p.row * i32(layout.cell) + j, v.lanes))
        byte = self.code.let(raw, typed("uint8", v.lanes))
        bits = layout.type.format.storage_bits
        shift = v.splat(tir.Cast("uint32", part * i32(bits)))
        return (v.cast(byte, "uint32") >> shift) & v.u((1 << bits) - 1)

    def _finish(self, p: Point, first: Expr) -> None:
        """Store the elements of a point, those of unpacked results, and take them in."""
        for i in self._stored(packed=False):
            p.write(i)
        if self.codes:
            self.codes.keep(p)
        self.sums.add(p, first)

    def _stored(self, *, packed: bool) -> list[int]:
        """The results that have an element for each place."""
        spec = self.frame.spec
        return [i for i in spec.outputs if i in spec.whole and (spec.layout(i).parts > 1) == packed]
