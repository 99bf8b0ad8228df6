"""Reductions that end in a pointwise kernel, however many threads run; see ``stripes``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tvm import tirx as tir

from ...tir.expr import Expr, Vectors, i32, load, ramp
from ...tir.pointwise.point import Frame, Point
from ...tir.pointwise.prologue import each_channel
from ...tir.pointwise.stripes import chan, moments
from ...tir.pointwise.tails import ChannelSum, LaneMax, LaneSum, Moments


@dataclass(eq=False)
class Reductions:
    """All reductions of a kernel over ``blocks`` blocks of rows."""

    frame: Frame
    blocks: int
    lanes: int
    channel: list[ChannelSum | Moments]
    lane: list[LaneSum | LaneMax]
    single: Expr | None = None
    double: Expr | None = None
    partial: Expr | None = None
    locals: dict[tuple[int, int, str], Expr] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether there is anything to reduce."""
        return bool(self.channel or self.lane)

    @property
    def width(self) -> int:
        """Elements of a block's partial result of a lane reduction."""
        return sum(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Lanes of the points that there are: vectors, and single elements behind them."""
        return (self.lanes, 1) if self.lanes > 1 else (1,)

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Partial results live inside the ``with``."""
        code, channels = self.frame.code, self.frame.space.channels
        sizes = {
            "single": ("float32", sum(t.single for t in self.channel) * channels),
            "double": ("float64", sum(t.double for t in self.channel) * channels),
            "partial": ("float64", len(self.lane) * self.width),
        }
        with ExitStack() as stack:
            for name, (dtype, size) in sizes.items():
                if size:
                    buffer = stack.enter_context(code.workspace(dtype, size * self.blocks))
                    setattr(self, name, buffer)
            yield

    def start(self, block: Expr) -> None:
        """Zero what a block adds to."""
        code, channels = self.frame.code, self.frame.space.channels
        for a, tail in enumerate(self.lane):
            for lanes in self.widths:
                v = Vectors(code, lanes)
                for name, dtype in _locals_of(tail):
                    self.locals[a, lanes, name] = buffer = code.local(dtype, lanes)
                    code.store(buffer, ramp(0, lanes), v.splat(0, dtype))
        for name, dtype in (("single", "float32"), ("double", "float64")):
            size = sum(getattr(t, name) for t in self.channel) * channels
            if size:
                self._zero(getattr(self, name), dtype, block * i32(size), size)

    def _zero(self, buffer: Expr, dtype: str, start: Expr, size: int) -> None:
        def body(v: Vectors, first: Expr) -> None:
            v.code.store(buffer, ramp(start + first, v.lanes), v.splat(0, dtype))

        each_channel(self.frame.code, size, self.lanes, body)

    def _place(self, name: str, tail: ChannelSum | Moments, part: int, block: Expr) -> Expr:
        """First element of a block's vector number ``part`` of a channel reduction."""
        before = self.channel[: self.channel.index(tail)]
        at = sum(getattr(t, name) for t in before) + part
        total = sum(getattr(t, name) for t in self.channel)
        return (block * i32(total) + i32(at)) * i32(self.frame.space.channels)

    def add(self, p: Point, block: Expr, first_row: Expr) -> None:
        """Take in the elements of a point; ``first_row`` holds in the first row of a stripe."""
        for a, tail in enumerate(self.lane):
            buffer, all_lanes = self.locals[a, p.v.lanes, "f"], ramp(0, p.v.lanes)
            old, x = load(buffer, all_lanes), tail.at(p)
            new = old + x if isinstance(tail, LaneSum) else tir.max(old, x)
            p.v.code.store(buffer, all_lanes, new)
        for each in self.channel:
            if isinstance(each, ChannelSum):
                self._increase(p, each, 0, block, each.at(p))
                continue
            x = each.at(p)
            shift = ramp(self._place("single", each, 0, block) + p.first, p.v.lanes)
            with p.v.code.when(first_row):
                p.v.code.store(self.single, shift, x)
            d = p.v.sub(x, load(self.single, shift))
            self._increase(p, each, 1, block, d)
            self._increase(p, each, 2, block, p.v.mul(d, d))

    def _increase(
        self, p: Point, tail: ChannelSum | Moments, part: int, block: Expr, x: Expr
    ) -> None:
        index = ramp(self._place("single", tail, part, block) + p.first, p.v.lanes)
        p.v.code.store(self.single, index, load(self.single, index) + x)

    def flush(self, block: Expr, before: Expr, rows: Expr) -> None:
        """Join the f32 sums of a stripe of ``rows`` rows to the f64 sums of ``before`` rows."""
        code = self.frame.code
        for a, tail in enumerate(self.lane):
            if isinstance(tail, LaneSum):
                for lanes in self.widths:
                    self._flush_lanes(a, lanes)
        for each in self.channel:
            if isinstance(each, ChannelSum):
                each_channel(code, self.frame.space.channels, self.lanes, self._sum(each, block))
            else:
                body = self._join(each, block, before, rows)
                each_channel(code, self.frame.space.channels, self.lanes, body)

    def _flush_lanes(self, a: int, lanes: int) -> None:
        v, everything = Vectors(self.frame.code, lanes), ramp(0, lanes)
        single, double = self.locals[a, lanes, "f"], self.locals[a, lanes, "d"]
        sum_ = load(double, everything) + v.cast(load(single, everything), "float64")
        v.code.store(double, everything, sum_)
        v.code.store(single, everything, v.splat(0.0))

    def _sum(self, tail: ChannelSum, block: Expr) -> Callable[[Vectors, Expr], None]:
        def body(v: Vectors, first: Expr) -> None:
            single = ramp(self._place("single", tail, 0, block) + first, v.lanes)
            double = ramp(self._place("double", tail, 0, block) + first, v.lanes)
            wide = v.cast(load(self.single, single), "float64")
            v.code.store(self.double, double, load(self.double, double) + wide)
            v.code.store(self.single, single, v.splat(0.0))

        return body

    def _join(
        self, tail: Moments, block: Expr, before: Expr, rows: Expr
    ) -> Callable[[Vectors, Expr], None]:
        def body(v: Vectors, first: Expr) -> None:
            d = Vectors(v.code, v.lanes, "float64")
            n, m = (d.splat(tir.Cast("float64", x)) for x in (before, rows))
            parts = [self._place("single", tail, i, block) + first for i in range(3)]
            shift, s1, s2 = (
                d.f(d.cast(load(self.single, ramp(p, v.lanes)), "float64")) for p in parts
            )
            for p in parts[1:]:
                v.code.store(self.single, ramp(p, v.lanes), v.splat(0.0))
            offset = d.div(s1, m)
            squares = d.sub(s2, d.mul(s1, offset))
            at = [self._place("double", tail, i, block) + first for i in range(2)]
            places = [(self.double, ramp(i, v.lanes)) for i in at]
            chan(d, places, (n, m, d.add(shift, offset), squares))

        return body

    def end(self, block: Expr) -> None:
        """Put the lane results of a block where the others find them."""
        for a, tail in enumerate(self.lane):
            name = "d" if isinstance(tail, LaneSum) else "f"
            base = (block * i32(len(self.lane)) + i32(a)) * i32(self.width)
            for lanes, start in zip(self.widths, (0, self.lanes), strict=False):
                v = Vectors(self.frame.code, lanes)
                value = load(self.locals[a, lanes, name], ramp(0, lanes))
                if isinstance(tail, LaneMax):
                    value = v.cast(value, "float64")
                v.code.store(self.partial, ramp(base + i32(start), lanes), value)

    def finish(self, block_rows: int) -> None:
        """Join the blocks in their order and store the results."""
        code = self.frame.code
        for each in self.channel:
            if isinstance(each, ChannelSum):
                body = self._total(each)
            else:
                body = self._moments(each, block_rows)
            each_channel(code, self.frame.space.channels, self.lanes, body)
        for a, tail in enumerate(self.lane):
            self._finish_lanes(a, tail)

    def _finish_lanes(self, a: int, tail: LaneSum | LaneMax) -> None:
        code = self.frame.code
        total = code.local("float64", 1)
        code.store(total, i32(0), tir.const(0.0, "float64"))
        with code.loop(self.blocks) as block, code.loop(self.width) as lane:
            base = (block * i32(len(self.lane)) + i32(a)) * i32(self.width)
            old, x = load(total, i32(0)), load(self.partial, base + lane)
            code.store(total, i32(0), old + x if isinstance(tail, LaneSum) else tir.max(old, x))
        v, result = Vectors(code, 1), load(total, i32(0))
        if isinstance(tail, LaneSum):
            number = v.cast(result, "float32")
        else:
            number = v.to_f(v.cast(result, "uint32"))
        code.store(self.frame.data[tail.output], i32(0), number)

    def _total(self, tail: ChannelSum) -> Callable[[Vectors, Expr], None]:
        def body(v: Vectors, first: Expr) -> None:
            d = Vectors(v.code, v.lanes, "float64")
            total, everything = v.code.local("float64", v.lanes), ramp(0, v.lanes)
            v.code.store(total, everything, d.splat(0.0))
            with v.code.loop(self.blocks) as block:
                index = ramp(self._place("double", tail, 0, block) + first, v.lanes)
                v.code.store(total, everything, load(total, everything) + load(self.double, index))
            result = d.f(load(total, everything))
            if tail.finish is not None:
                result = tail.finish(
                    d, result, lambda i: load(self.frame.data[i], ramp(first, v.lanes))
                )
            number = v.cast(result, "float32")
            v.code.store(self.frame.data[tail.output], ramp(first, v.lanes), number)

        return body

    def _moments(self, tail: Moments, block_rows: int) -> Callable[[Vectors, Expr], None]:
        rows = self.frame.space.rows

        def body(v: Vectors, first: Expr) -> None:
            d, everything = Vectors(v.code, v.lanes, "float64"), ramp(0, v.lanes)
            places = [(v.code.local("float64", v.lanes), everything) for _ in range(2)]
            for buffer, index in places:
                v.code.store(buffer, index, d.splat(0.0))
            with v.code.loop(self.blocks) as block:
                before = block * i32(block_rows)
                count = tir.min(i32(block_rows), i32(rows) - before)
                at = [self._place("double", tail, i, block) + first for i in range(2)]
                mean, squares = (d.f(load(self.double, ramp(i, v.lanes))) for i in at)
                n, m = (d.splat(tir.Cast("float64", x)) for x in (before, count))
                chan(d, places, (n, m, mean, squares))
            mean, squares = (d.f(load(*place)) for place in places)
            mean, var = moments(d, mean, squares, rows)
            for output, result in ((tail.mean, mean), (tail.var, var)):
                if output >= 0:
                    number = v.cast(result, "float32")
                    v.code.store(self.frame.data[output], ramp(first, v.lanes), number)

        return body


def _locals_of(tail: LaneSum | LaneMax) -> list[tuple[str, str]]:
    if isinstance(tail, LaneSum):
        return [("f", "float32"), ("d", "float64")]
    return [("f", "uint32")]
