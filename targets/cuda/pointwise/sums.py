"""The reductions of one thread: registers for each of its channels, left in memory at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tvm import tirx as tir

from ...tir.expr import Expr, Vectors, i32, load, ramp
from ...tir.pointwise.point import Point
from ...tir.pointwise.tails import ChannelSum, LaneMax, LaneSum, Moments
from ..code import DeviceCode
from .geometry import PointwiseGrid


@dataclass(frozen=True, eq=False, slots=True)
class Scratch:
    """Numbers between the launches: of stripes for channels, of blocks for all elements."""

    geometry: PointwiseGrid
    single: Expr | None = None
    partial: Expr | None = None

    def place(self, number: int, stripe: Expr, channel: Expr) -> Expr:
        """Where number ``number`` of a stripe for a channel lies."""
        first = i32(number * self.geometry.stripes) + stripe
        return first * i32(self.geometry.spec.space.channels) + channel


def type_of(tail: LaneSum | LaneMax) -> str:
    """What a thread sums in."""
    return "float32" if isinstance(tail, LaneSum) else "uint32"


def wide_type_of(tail: LaneSum | LaneMax) -> str:
    """What the threads of a block are joined in."""
    return "float64" if isinstance(tail, LaneSum) else "uint32"


def join(tail: LaneSum | LaneMax, a: Expr, b: Expr) -> Expr:
    """Two numbers as one."""
    return a + b if isinstance(tail, LaneSum) else tir.max(a, b)


def add_moment(v: Vectors, places: Sequence[tuple[Expr, Expr]], x: Expr, first: Expr) -> None:
    """Take in a number of a stripe of ``Moments``; ``first`` holds at its first row."""
    shift, sum_, squares = places
    with v.code.when(first):
        v.code.store(*shift, x)
    d = v.sub(x, load(*shift))
    v.code.store(*sum_, load(*sum_) + d)
    v.code.store(*squares, load(*squares) + v.mul(d, d))


@dataclass(eq=False)
class Sums:
    """All reductions of a kernel, in one thread; ``turn`` counts its points in a row."""

    code: DeviceCode
    scratch: Scratch
    channel: list[ChannelSum | Moments]
    lane: list[LaneSum | LaneMax]
    turn: int = 0
    registers: dict[tuple[int, int, int], Expr] = field(default_factory=dict)
    singles: list[dict[int, Expr]] = field(default_factory=list)

    def __post_init__(self) -> None:
        geometry = self.scratch.geometry
        assert sum(t.single for t in self.channel) == geometry.sums
        assert len(self.lane) == geometry.numbers
        for a, tail in enumerate(self.channel):
            for q in range(geometry.own):
                for k in range(tail.single):
                    self.registers[a, q, k] = self._zero("float32", 1)
        # Of single elements, and of vectors.
        widths = sorted({1, geometry.lanes})
        self.singles = [{n: self._zero(type_of(t), n) for n in widths} for t in self.lane]

    def _zero(self, dtype: str, lanes: int) -> Expr:
        made = self.code.local(dtype, lanes)
        self.code.store(made, ramp(0, lanes), Vectors(self.code, lanes).splat(0, dtype))
        return made

    def add(self, p: Point, first: Expr) -> None:
        """Take in a point; ``first`` holds in the first row. Called for its parts in order."""
        code, everything = self.code, ramp(0, p.v.lanes)
        for registers, each in zip(self.singles, self.lane, strict=True):
            register = registers[p.v.lanes]
            code.store(register, everything, join(each, load(register, everything), each.at(p)))
        for a, tail in enumerate(self.channel):
            own = [(self.registers[a, self.turn, k], i32(0)) for k in range(tail.single)]
            x = tail.at(p)
            if isinstance(tail, ChannelSum):
                code.store(*own[0], load(*own[0]) + x)
                continue
            add_moment(p.v, own, x, first)
        self.turn = (self.turn + 1) % self.scratch.geometry.own

    def store_channels(self, stripe: Expr, column: Expr) -> None:
        """Leave the stripe's sums."""
        geometry, numbers = self.scratch.geometry, 0
        between = geometry.across if geometry.padded else geometry.cell
        for a, tail in enumerate(self.channel):
            for q in range(geometry.own):
                channel = column + i32(q * between)
                with self.code.when(channel < i32(geometry.spec.space.channels)):
                    for k in range(tail.single):
                        place = self.scratch.place(numbers + k, stripe, channel)
                        sum_ = load(self.registers[a, q, k], i32(0))
                        self.code.store(self.scratch.single, place, sum_)
            numbers += tail.single

    def store_block(self) -> None:
        """Numbers of all threads joined in a tree, one a block: the order is that of the shape."""
        code = self.code
        for a, (registers, tail) in enumerate(zip(self.singles, self.lane, strict=True)):
            dtype = wide_type_of(tail)
            own = code.local(dtype, 1)
            code.store(own, i32(0), tir.const(0, dtype))
            for lanes, register in registers.items():
                for k in range(lanes):
                    x = tir.Cast(dtype, load(register, i32(k)))
                    code.store(own, i32(0), join(tail, load(own, i32(0)), x))
            made = code.tree(load(own, i32(0)), dtype, partial(join, tail))
            with code.when(code.thread.equal(i32(0))):
                place = code.block * i32(len(self.lane)) + i32(a)
                code.store(self.scratch.partial, place, tir.Cast("float64", made))
