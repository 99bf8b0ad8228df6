"""What the stripes and blocks of a pointwise kernel left, joined in the order of the shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tvm import tirx as tir

from ...tir.expr import Expr, Vectors, i32, load
from ...tir.pointwise.point import Frame
from ...tir.pointwise.space import STRIPE
from ...tir.pointwise.stripes import blocks, chan, moments
from ...tir.pointwise.tails import (
    ChannelSum,
    LaneMax,
    LaneSum,
    Moments,
    channel_tails,
    lane_tails,
)
from ..code import DeviceCode
from .sums import Scratch, join, wide_type_of

CHANNELS = 4  # of a block, each of up to 64 threads: one for each block of rows


@dataclass(frozen=True, eq=False, slots=True)
class Joined:
    """Blocks of a few channels each, and one more for the numbers of all elements."""

    frame: Frame
    code: DeviceCode
    scratch: Scratch

    def run(self) -> None:
        """Append everything."""
        code, channel, lane = self.code, channel_tails(self.frame), lane_tails(self.frame)
        wide = -(-self.frame.space.channels // CHANNELS) if channel else 0
        code.grid = wide + bool(lane)
        with code.alone(None):
            if channel:
                with code.when(code.block < i32(wide)):
                    first = 0
                    for tail in channel:
                        self._channels(tail, first)
                        first += tail.single
            if lane:
                with code.when(code.block.equal(i32(wide))):
                    for a, each in enumerate(lane):
                        self._numbers(a, len(lane), each)

    def _channels(self, tail: ChannelSum | Moments, first: int) -> None:
        """Stripes to blocks of rows by a thread each, those to the channel by one."""
        code, space = self.code, self.frame.space
        _, count = blocks(space.rows, space.channels)
        lane = code.let(tir.floormod(code.thread, i32(CHANNELS)), "int32", "lane")
        block = code.let(tir.floordiv(code.thread, i32(CHANNELS)), "int32", "row")
        channel = code.let(code.block * i32(CHANNELS) + lane, "int32", "channel")
        inside = channel < i32(space.channels)
        shared = [code.shared("float64", code.threads) for _ in range(tail.double)]
        sums = self._zeros(tail)
        with code.when(tir.all(block < i32(count), inside)):
            self._stripes(tail, first, block, channel, sums)
        for buffer, own in zip(shared, sums, strict=True):
            code.store(buffer, code.thread, load(own, i32(0)))
        code.barrier()
        with code.when(tir.all(code.thread < i32(CHANNELS), inside)):
            self._blocks(tail, shared, lane, channel)
        code.barrier()

    def _zeros(self, tail: ChannelSum | Moments) -> list[Expr]:
        made = []
        for _ in range(tail.double):
            made.append(self.code.local("float64", 1))
            self.code.store(made[-1], i32(0), tir.const(0.0, "float64"))
        return made

    def _stripes(
        self,
        tail: ChannelSum | Moments,
        first: int,
        block: Expr,
        channel: Expr,
        sums: list[Expr],
    ) -> None:
        code, d, zero = self.code, Vectors(self.code, 1, "float64"), i32(0)
        space, stripes = self.frame.space, self.scratch.geometry.stripes
        block_rows, _ = blocks(space.rows, space.channels)
        each = block_rows // STRIPE
        with code.loop(each) as s:
            stripe = code.let(block * i32(each) + s, "int32", "stripe")
            with code.when(stripe < i32(stripes)):
                parts = []
                for k in range(tail.single):
                    place = self.scratch.place(first + k, stripe, channel)
                    parts.append(d.f(d.cast(load(self.scratch.single, place), "float64")))
                if isinstance(tail, ChannelSum):
                    code.store(sums[0], zero, load(sums[0], zero) + parts[0])
                    return
                shift, s1, s2 = parts
                n = tir.Cast("float64", s * i32(STRIPE))
                rows = tir.min(i32(STRIPE), i32(space.rows) - stripe * i32(STRIPE))
                m = tir.Cast("float64", rows)
                offset = d.div(s1, m)
                new = d.add(shift, offset), d.sub(s2, d.mul(s1, offset))
                chan(d, [(x, zero) for x in sums], (n, m, *new))

    def _blocks(
        self, tail: ChannelSum | Moments, shared: list[Expr], lane: Expr, channel: Expr
    ) -> None:
        """The blocks of rows in their order, and the result."""
        code, d, zero = self.code, Vectors(self.code, 1, "float64"), i32(0)
        space, sums = self.frame.space, self._zeros(tail)
        block_rows, count = blocks(space.rows, space.channels)
        with code.loop(count) as b:
            new = [d.f(load(buffer, b * i32(CHANNELS) + lane)) for buffer in shared]
            if isinstance(tail, ChannelSum):
                code.store(sums[0], zero, load(sums[0], zero) + new[0])
            else:
                before = b * i32(block_rows)
                rows = tir.min(i32(block_rows), i32(space.rows) - before)
                n, m = (tir.Cast("float64", x) for x in (before, rows))
                chan(d, [(x, zero) for x in sums], (n, m, new[0], new[1]))
        self._store(tail, [d.f(load(x, zero)) for x in sums], channel)

    def _store(self, tail: ChannelSum | Moments, sums: list[Expr], channel: Expr) -> None:
        d, data = Vectors(self.code, 1, "float64"), self.frame.data
        if isinstance(tail, ChannelSum):
            total = sums[0]
            if tail.finish is not None:
                total = tail.finish(d, total, lambda i: load(data[i], channel))
            results = [(tail.output, total)]
        else:
            mean, var = moments(d, sums[0], sums[1], self.frame.space.rows)
            results = [(tail.mean, mean), (tail.var, var)]
        for output, x in results:
            if output >= 0:
                self.code.store(data[output], channel, d.cast(x, "float32"))

    def _numbers(self, a: int, many: int, tail: LaneSum | LaneMax) -> None:
        """The numbers of all blocks."""
        code, g = self.code, self.scratch.geometry
        dtype, zero = wide_type_of(tail), i32(0)
        own = code.local(dtype, 1)
        code.store(own, zero, tir.const(0, dtype))
        with code.strided(g.tall * g.wide) as block:
            number = load(self.scratch.partial, block * i32(many) + i32(a))
            joined = join(tail, load(own, zero), tir.Cast(dtype, number))
            code.store(own, zero, joined)
        made = code.tree(load(own, zero), dtype, partial(join, tail))
        v = Vectors(code, 1)
        number = v.cast(made, "float32") if isinstance(tail, LaneSum) else v.to_f(made)
        with code.when(code.thread.equal(zero)):
            code.store(self.frame.data[tail.output], zero, number)
