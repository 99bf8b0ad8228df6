"""Kernels of pooling: every result gathers from its window, or from the windows around it.

Vectors of channels where the channels lie last and fill them; sums in f32 in the order of taps and
windows row by row, adaptive averages in f64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from .layout import Layout, Order
from .tvm_expr import PARALLEL, SERIAL, Expr, Vectors, i32, load, ramp, typed
from .tvm_pool_window import Adaptive, Sliding, Window
from .tvm_shape import offset
from .tvm_single_frame import CHUNK, Builder, Frame

Pixel = tuple[Expr, Expr]


@dataclass(frozen=True, eq=False)
class Place:
    """An element of the result under construction: image, first channel, pixel."""

    frame: Frame
    v: Vectors
    image: Expr
    channel: Expr
    pixel: Pixel

    def at(self, layout: Layout, pixel: Pixel) -> Expr:
        """Place in memory of this image's channel at another pixel."""
        return ramp(offset(layout, [self.image, self.channel, *pixel]), self.v.lanes)

    def read(self, i: int, pixel: Pixel) -> Expr:
        """f32 numbers of operand ``i``."""
        first = offset(self.frame.inputs[i], [self.image, self.channel, *pixel])
        return self.frame.read(self.v, i, first)

    def where(self, i: int, pixel: Pixel) -> Expr:
        """Winners' places of operand ``i``, as i32."""
        raw = load(self.frame.sources[i], self.at(self.frame.inputs[i], pixel))
        return self.v.cast(raw, "int32")

    def write(self, x: Expr) -> None:
        """The first result at this place."""
        first = offset(self.frame.outputs[0], [self.image, self.channel, *self.pixel])
        self.frame.write(self.v, 0, first, x)

    @contextmanager
    def sum(self, dtype: str = "float32") -> Iterator[Expr]:
        """A zeroed accumulator, one a lane."""
        total = self.frame.code.local(dtype, self.v.lanes)
        self.frame.code.store(total, self.everywhere, self.v.splat(0.0, dtype))
        yield total

    @property
    def everywhere(self) -> Expr:
        """Index of all lanes of an accumulator."""
        return ramp(0, self.v.lanes)


def _places(frame: Frame, body: Callable[[Place], None]) -> None:
    """Run ``body`` for every place of the first result."""
    code, (n, c, h, w) = frame.code, frame.outputs[0].type.shape
    last = all(x.order is Order.PIXELS for x in (*frame.inputs, *frame.outputs) if x.type.shape)
    lanes = frame.lanes if last and c % frame.lanes == 0 else 1
    kind = PARALLEL if n * c * h * w > CHUNK else SERIAL
    with (
        code.loop(n * h, kind) as row,
        code.loop(w) as x,
        code.loop(c // lanes) as k,
    ):
        image, y = tir.floordiv(row, i32(h)), tir.floormod(row, i32(h))
        body(Place(frame, Vectors(code, lanes), image, k * i32(lanes), (y, x)))


def _max(frame: Frame, window: Window) -> None:
    """A tap wins if it is larger or NaN, as in torch; ``where`` is its place."""
    code = frame.code

    def body(p: Place) -> None:
        v = p.v
        best, where = code.local("float32", v.lanes), code.local("int32", v.lanes)
        code.store(best, p.everywhere, v.splat(float("-inf")))
        code.store(where, p.everywhere, v.i(-1))
        with window.taps(code, p.pixel) as (pixel, tap):
            x = p.read(0, pixel)
            old, old_where = load(best, p.everywhere), load(where, p.everywhere)
            nan = (v.bits(x) & v.u(0x7FFFFFFF)) > v.u(0x7F800000)
            wins = (
                tir.any((old_where < v.i(0)), x > old, nan)
                if v.lanes == 1
                else ((old_where < v.i(0)) | (x > old) | nan)
            )
            taken = code.let(v.where(wins, v.splat(tap), old_where), typed("int32", v.lanes))
            code.store(best, p.everywhere, v.where(wins, x, old))
            code.store(where, p.everywhere, taken)
        p.write(v.f(load(best, p.everywhere)))
        places = v.where(load(where, p.everywhere) < v.i(0), v.i(0), load(where, p.everywhere))
        code.store(
            frame.results[1],
            p.at(frame.outputs[1], p.pixel),
            v.cast(places, frame.outputs[1].dtype),
        )

    _places(frame, body)


def _max_grad(frame: Frame, window: Window) -> None:
    """Each window sends its gradient to its winner."""
    code = frame.code

    def body(p: Place) -> None:
        with p.sum() as total:
            with window.around(code, p.pixel) as (place, tap):
                won = p.where(1, place) == p.v.splat(tap)
                share = p.v.f(p.v.where(won, p.read(0, place), p.v.splat(0.0)))
                sum_ = p.v.add(load(total, p.everywhere), share)
                code.store(total, p.everywhere, sum_)
            p.write(p.v.f(load(total, p.everywhere)))

    _places(frame, body)


def _average(frame: Frame, window: Window, dtype: str) -> None:
    """The sum over the window, divided by what counts."""
    code = frame.code

    def body(p: Place) -> None:
        with p.sum(dtype) as total:
            with window.taps(code, p.pixel) as (pixel, _):
                x = p.v.cast(p.read(0, pixel), dtype)
                code.store(total, p.everywhere, load(total, p.everywhere) + x)
            divisor = p.v.splat(tir.Cast(dtype, window.divisor(p.pixel)))
            made = tir.div(load(total, p.everywhere), divisor)
            p.write(p.v.f(p.v.cast(made, "float32")))

    _places(frame, body)


def _average_grad(frame: Frame, window: Window) -> None:
    """Each window sends gradient / divisor to its elements."""
    code = frame.code

    def body(p: Place) -> None:
        with p.sum() as total:
            with window.around(code, p.pixel) as (place, _):
                divisor = p.v.splat(tir.Cast("float32", window.divisor(place)))
                share = p.v.div(p.read(0, place), divisor)
                code.store(total, p.everywhere, p.v.add(load(total, p.everywhere), share))
            p.write(p.v.f(load(total, p.everywhere)))

    _places(frame, body)


def _sliding(frame: Frame, plane: Layout, places: Layout) -> Sliding:
    return Sliding.of(frame.attrs, plane.type.shape[2:], places.type.shape[2:])


def _adaptive(plane: Layout, places: Layout) -> Adaptive:
    return Adaptive(plane.type.shape[2:], places.type.shape[2:])


POOL: dict[str, Builder] = {
    "max_pool2d": lambda f: _max(f, _sliding(f, f.inputs[0], f.outputs[0])),
    "max_pool2d_grad": lambda f: _max_grad(f, _sliding(f, f.outputs[0], f.inputs[0])),
    "avg_pool2d": lambda f: _average(f, _sliding(f, f.inputs[0], f.outputs[0]), "float32"),
    "avg_pool2d_grad": lambda f: _average_grad(f, _sliding(f, f.outputs[0], f.inputs[0])),
    "adaptive_avg_pool2d": lambda f: _average(f, _adaptive(f.inputs[0], f.outputs[0]), "float64"),
    "adaptive_avg_pool2d_grad": lambda f: _average_grad(f, _adaptive(f.outputs[0], f.inputs[0])),
    "adaptive_max_pool2d": lambda f: _max(f, _adaptive(f.inputs[0], f.outputs[0])),
    "adaptive_max_pool2d_grad": lambda f: _max_grad(f, _adaptive(f.outputs[0], f.inputs[0])),
}
