"""Kernels of adaptive pooling: window (i, j) of n x m covers a share of the plane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx as tir

from ..expr import Code, Expr, i32, load, ramp
from ..pointwise.space import memory_strides
from .grid import Single, Spot
from .loops import Buffers
from .pool import PIXELS, Best, Sum
from .sums import store_wide
from .total import wide


def share(place: Expr, size: int, places: int) -> tuple[Expr, Expr]:
    """First element and number of elements of a window along one side."""
    first = tir.floordiv(place * i32(size), i32(places))
    end = tir.floordiv((place + i32(1)) * i32(size) + i32(places - 1), i32(places))
    return first, end - first


def windows_over(x: Expr, size: int, places: int) -> tuple[Expr, Expr]:
    """First window that covers an element along one side, and number of them."""
    return share(x, places, size)


@contextmanager
def _box(
    code: Code, rows: tuple[Expr, Expr], columns: tuple[Expr, Expr]
) -> Iterator[tuple[Expr, Expr]]:
    with code.loop(rows[1]) as r, code.loop(columns[1]) as c:
        yield rows[0] + r, columns[0] + c


def _sides(s: Spot, plane: tuple[int, ...], places: tuple[int, ...]) -> list[tuple[Expr, Expr]]:
    return [share(s.at[d], plane[d], places[d]) for d in (2, 3)]


def _covering(s: Spot, plane: tuple[int, ...], places: tuple[int, ...]) -> list[tuple[Expr, Expr]]:
    return [windows_over(s.at[d], plane[d], places[d]) for d in (2, 3)]


def adaptive_avg_pool2d(b: Buffers, spec: Single) -> None:
    """Means in f64."""
    (x,), (y,) = spec.inputs, spec.outputs

    def body(s: Spot) -> None:
        v, everything = wide(s.v), ramp(0, s.v.lanes)
        rows, columns = _sides(s, x.type.shape, y.type.shape)
        sum_ = b.code.local("float64", v.lanes)
        b.code.store(sum_, everything, v.splat(0.0))
        with _box(b.code, rows, columns) as (h, w):
            number = Spot(s.v, {**s.at, 2: h, 3: w}, s.side).number(b.inputs[0], x)
            b.code.store(sum_, everything, load(sum_, everything) + v.cast(number, "float64"))
        count = v.splat(tir.Cast("float64", rows[1] * columns[1]))
        result = v.div(v.f(load(sum_, everything)), count)
        store_wide(s.v, b.outputs[0], s.index(memory_strides(y)), y, result)

    b.loops.over(y.type.shape, PIXELS, spec.lanes, body)


def adaptive_avg_pool2d_grad(b: Buffers, spec: Single) -> None:
    """Each window sends gradient / size to its elements."""
    (g,), (dx,) = spec.inputs, spec.outputs

    def body(s: Spot) -> None:
        sum_ = Sum.zero(s.v)
        with _box(b.code, *_covering(s, dx.type.shape, g.type.shape)) as (i, j):
            at = Spot(s.v, {**s.at, 2: i, 3: j}, s.side)
            rows, columns = _sides(at, dx.type.shape, g.type.shape)
            size = s.v.splat(tir.Cast("float32", rows[1] * columns[1]))
            sum_.add(s.v.div(at.number(b.inputs[0], g), size))
        s.put(b.outputs[0], dx, sum_.value())

    b.loops.over(dx.type.shape, PIXELS, spec.lanes, body)


def adaptive_max_pool2d(b: Buffers, spec: Single) -> None:
    """``where`` is the winner's place in the plane."""
    (x,), y = spec.inputs, spec.outputs[0]

    def body(s: Spot) -> None:
        best = Best.none(s.v)
        with _box(b.code, *_sides(s, x.type.shape, y.type.shape)) as (h, w):
            number = Spot(s.v, {**s.at, 2: h, 3: w}, s.side).number(b.inputs[0], x)
            best.see(number, h * i32(x.type.shape[3]) + w)
        best.store(s, b, spec)

    b.loops.over(y.type.shape, PIXELS, spec.lanes, body)


def adaptive_max_pool2d_grad(b: Buffers, spec: Single) -> None:
    """Each window sends its gradient to its winner."""
    (g, where), (dx,) = spec.inputs, spec.outputs

    def body(s: Spot) -> None:
        sum_ = Sum.zero(s.v)
        place = s.v.splat(s.at[2] * i32(dx.type.shape[3]) + s.at[3])
        with _box(b.code, *_covering(s, dx.type.shape, g.type.shape)) as (i, j):
            at = Spot(s.v, {**s.at, 2: i, 3: j}, s.side)
            winner = s.v.cast(at.raw(b.inputs[1], where.dtype, memory_strides(where)), "int32")
            number = at.number(b.inputs[0], g)
            sum_.add(s.v.f(s.v.where(winner == place, number, s.v.splat(0.0))))
        s.put(b.outputs[0], dx, sum_.value())

    b.loops.over(dx.type.shape, PIXELS, spec.lanes, body)


ADAPTIVE = {
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_avg_pool2d_grad": adaptive_avg_pool2d_grad,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    "adaptive_max_pool2d_grad": adaptive_max_pool2d_grad,
}
