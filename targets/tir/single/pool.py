"""Kernels of pooling with sliding windows; vectors lie along the channels.

Each element of a result gathers what belongs to it, so that no order of threads can change a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ..expr import Expr, Vectors, load, ramp, typed
from ..formats import is_nan
from ..pointwise.space import memory_strides
from ..window import Windows
from .grid import Single, Spot
from .loops import Buffers

PIXELS = (0, 2, 3, 1)


@dataclass(eq=False, slots=True)
class Best:
    """The largest number seen by each lane, and where; NaN is larger than all before it."""

    v: Vectors
    number: Expr
    where: Expr

    @classmethod
    def none(cls, v: Vectors) -> Best:
        """Nothing seen yet."""
        made = cls(v, v.code.local("float32", v.lanes), v.code.local("int32", v.lanes))
        v.code.store(made.number, ramp(0, v.lanes), v.splat(float("-inf")))
        v.code.store(made.where, ramp(0, v.lanes), v.i(-1))
        return made

    def see(self, x: Expr, place: Expr) -> None:
        """The first of equal numbers wins."""
        v, everything = self.v, ramp(0, self.v.lanes)
        best = v.code.let(load(self.number, everything), typed("float32", v.lanes))
        where = v.code.let(load(self.where, everything), typed("int32", v.lanes))
        wins = tir.Or(tir.Or(where < v.i(0), x > best), is_nan(v, x))
        v.code.store(self.number, everything, v.where(wins, x, best))
        v.code.store(self.where, everything, v.where(wins, v.splat(place), where))

    def store(self, s: Spot, b: Buffers, spec: Single) -> None:
        """Write both results."""
        y, where = spec.outputs
        everything = ramp(0, self.v.lanes)
        s.put(b.outputs[0], y, self.v.f(load(self.number, everything)))
        place = tir.max(load(self.where, everything), self.v.i(0))
        index = s.index(memory_strides(where))
        self.v.code.store(b.outputs[1], index, self.v.cast(place, where.dtype))


@dataclass(eq=False, slots=True)
class Sum:
    """A sum in f32, one term after another."""

    v: Vectors
    buffer: Expr

    @classmethod
    def zero(cls, v: Vectors) -> Sum:
        """An empty sum."""
        made = cls(v, v.code.local("float32", v.lanes))
        v.code.store(made.buffer, ramp(0, v.lanes), v.splat(0.0))
        return made

    def add(self, x: Expr) -> None:
        """One more term, an f32 name."""
        everything = ramp(0, self.v.lanes)
        self.v.code.store(self.buffer, everything, load(self.buffer, everything) + x)

    def value(self) -> Expr:
        """The sum as a name."""
        return self.v.f(load(self.buffer, ramp(0, self.v.lanes)))


def max_pool2d(b: Buffers, spec: Single) -> None:
    """``where`` is the winner's tap, row by row."""
    (x,), y = spec.inputs, spec.outputs[0]
    windows = Windows.of(spec.op, x.type.shape, y.type.shape)

    def body(s: Spot) -> None:
        best = Best.none(s.v)
        with windows.taps(b.code, s.at[2], s.at[3]) as (tap, h, w):
            inside = Spot(s.v, {**s.at, 2: h, 3: w}, s.side)
            best.see(inside.number(b.inputs[0], x), tap)
        best.store(s, b, spec)

    b.loops.over(y.type.shape, PIXELS, spec.lanes, body)


def max_pool2d_grad(b: Buffers, spec: Single) -> None:
    """Each window sends its gradient to its winner."""
    (g, where), (dx,) = spec.inputs, spec.outputs
    windows = Windows.of(spec.op, dx.type.shape, g.type.shape)

    def body(s: Spot) -> None:
        sum_ = Sum.zero(s.v)
        with windows.around(b.code, s.at[2], s.at[3]) as (tap, i, j):
            at = Spot(s.v, {**s.at, 2: i, 3: j}, s.side)
            winner = s.v.cast(at.raw(b.inputs[1], where.dtype, memory_strides(where)), "int32")
            number = at.number(b.inputs[0], g)
            won = s.v.where(winner == s.v.splat(tap), number, s.v.splat(0.0))
            sum_.add(s.v.f(won))
        s.put(b.outputs[0], dx, sum_.value())

    b.loops.over(dx.type.shape, PIXELS, spec.lanes, body)


def avg_pool2d(b: Buffers, spec: Single) -> None:
    """The sum over the divisor."""
    (x,), (y,) = spec.inputs, spec.outputs
    windows = Windows.of(spec.op, x.type.shape, y.type.shape)

    def body(s: Spot) -> None:
        sum_ = Sum.zero(s.v)
        with windows.taps(b.code, s.at[2], s.at[3]) as (_, h, w):
            sum_.add(Spot(s.v, {**s.at, 2: h, 3: w}, s.side).number(b.inputs[0], x))
        divisor = windows.divisor(spec.op, s.at[2], s.at[3])
        s.put(b.outputs[0], y, s.v.div(sum_.value(), s.v.splat(divisor)))

    b.loops.over(y.type.shape, PIXELS, spec.lanes, body)


def avg_pool2d_grad(b: Buffers, spec: Single) -> None:
    """Each window sends gradient / divisor to its taps."""
    (g,), (dx,) = spec.inputs, spec.outputs
    windows = Windows.of(spec.op, dx.type.shape, g.type.shape)

    def body(s: Spot) -> None:
        sum_ = Sum.zero(s.v)
        with windows.around(b.code, s.at[2], s.at[3]) as (_, i, j):
            number = Spot(s.v, {**s.at, 2: i, 3: j}, s.side).number(b.inputs[0], g)
            sum_.add(s.v.div(number, s.v.splat(windows.divisor(spec.op, i, j))))
        s.put(b.outputs[0], dx, sum_.value())

    b.loops.over(dx.type.shape, PIXELS, spec.lanes, body)


POOL = {
    "max_pool2d": max_pool2d,
    "max_pool2d_grad": max_pool2d_grad,
    "avg_pool2d": avg_pool2d,
    "avg_pool2d_grad": avg_pool2d_grad,
}
