"""Kernels that move elements, and those that add along dimensions: index arithmetic only.

Each walks the result in memory order and finds for every element where its operand lies.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tvm import tirx as tir

from ..compiler.types import Shape
from .layout import Layout
from .tvm_expr import PARALLEL, SERIAL, Expr, Vectors, i32, load
from .tvm_single_frame import CHUNK, Builder, Frame

Coordinates = list[Expr]


def coordinates(flat: Expr, shape: Shape) -> Coordinates:
    """Coordinates of a row-major index."""
    out: Coordinates = []
    for d in reversed(shape):
        out.append(tir.floormod(flat, i32(d)))
        flat = tir.floordiv(flat, i32(d))
    return out[::-1]


def logical(layout: Layout, physical: Coordinates) -> Coordinates:
    """Logical coordinates of an element of memory."""
    if layout.physical_shape == layout.type.shape and len(layout.type.shape) < 3:
        return physical
    if layout.order.value == "rows":
        return physical
    return [physical[0], physical[-1], *physical[1:-1]]


def offset(layout: Layout, at: Coordinates) -> Expr:
    """Place in memory of the element at logical coordinates."""
    if layout.order.value == "pixels" and len(at) > 2:
        at = [at[0], *at[2:], at[1]]
    flat: Expr = i32(0)
    for d, c in zip(layout.physical_shape, at, strict=True):
        flat = flat * i32(d) + c
    return flat


def each(frame: Frame, layout: Layout, body: Callable[[Expr, Coordinates], None]) -> None:
    """Run ``body`` for every element of ``layout``: its place and its logical coordinates."""
    code, shape = frame.code, layout.physical_shape or (1,)
    outer, inner = prod(shape[:-1]), shape[-1]
    kind = PARALLEL if outer * inner > CHUNK else SERIAL
    with code.loop(outer, kind) as row:
        rest = coordinates(row, shape[:-1])
        with code.loop(inner) as last:
            at = logical(layout, [*rest, last]) if layout.type.shape else []
            body(row * i32(inner) + last, at)


def _gather(frame: Frame, source: Callable[[Coordinates], Coordinates]) -> None:
    """The result's element at x is the operand's at ``source(x)``."""

    def body(place: Expr, at: Coordinates) -> None:
        _move(frame, 0, offset(frame.inputs[0], source(at)), place)

    each(frame, frame.outputs[0], body)


def _move(frame: Frame, i: int, source: Expr, place: Expr) -> None:
    """Copy an element of operand ``i``, between carriers by way of f32."""
    if frame.inputs[i].type.format == frame.outputs[0].type.format:
        frame.code.store(frame.results[0], place, load(frame.sources[i], source))
    else:
        v = Vectors(frame.code, 1)
        frame.write(v, 0, place, frame.read(v, i, source))


def view(frame: Frame) -> None:
    """The same elements in row-major order."""
    before, after = frame.inputs[0].type.shape, frame.outputs[0].type.shape

    def source(at: Coordinates) -> Coordinates:
        flat: Expr = i32(0)
        for d, c in zip(after, at, strict=True):
            flat = flat * i32(d) + c
        return coordinates(flat, before)

    _gather(frame, source)


def permute(frame: Frame) -> None:
    """Dimension i of the result is dimension dims[i] of the operand."""
    dims = frame.attrs["dims"]
    assert isinstance(dims, tuple)
    _gather(frame, lambda at: [at[dims.index(d)] for d in range(len(at))])


def slice_(frame: Frame) -> None:
    """Elements start, start + step, ... of one dimension."""
    dim, start, step = (int(frame.number(k)) for k in ("dim", "start", "step"))
    _gather(frame, lambda at: [*at[:dim], at[dim] * i32(step) + i32(start), *at[dim + 1 :]])


def broadcast(frame: Frame) -> None:
    """Repeats along dims."""
    dims = frame.attrs["dims"]
    assert isinstance(dims, tuple)
    kept = len(frame.inputs[0].type.shape) == len(frame.outputs[0].type.shape)

    def source(at: Coordinates) -> Coordinates:
        if kept:
            return [i32(0) if i in dims else c for i, c in enumerate(at)]
        return [c for i, c in enumerate(at) if i not in dims]

    _gather(frame, source)


def cat(frame: Frame) -> None:
    """One operand after the other along a dimension."""
    dim, start = int(frame.number("dim")), 0
    for i, operand in enumerate(frame.inputs):

        def body(place: Expr, at: Coordinates, i: int = i, start: int = start) -> None:
            to = [*at[:dim], at[dim] + i32(start), *at[dim + 1 :]]
            _move(frame, i, place, offset(frame.outputs[0], to))

        each(frame, operand, body)
        start += operand.type.shape[dim]


def _fill(frame: Frame, value: float) -> None:
    size = frame.outputs[0].rows * frame.outputs[0].cell
    frame.flat(size, lambda v, first: frame.write(v, 0, first, v.f(v.splat(value))))


def _scatter(frame: Frame, target: Callable[[Coordinates], Coordinates]) -> None:
    """The operand's element at x goes to ``target(x)``."""

    def body(place: Expr, at: Coordinates) -> None:
        _move(frame, 0, place, offset(frame.outputs[0], target(at)))

    each(frame, frame.inputs[0], body)


def slice_grad(frame: Frame) -> None:
    """Zeros but for the elements that the slice took."""
    dim, start, step = (int(frame.number(k)) for k in ("dim", "start", "step"))
    _fill(frame, 0.0)
    _scatter(frame, lambda at: [*at[:dim], at[dim] * i32(step) + i32(start), *at[dim + 1 :]])


def pad(frame: Frame) -> None:
    """A constant border."""
    before = frame.attrs["before"]
    assert isinstance(before, tuple)
    _fill(frame, frame.number("value"))
    _scatter(frame, lambda at: [c + i32(b) for c, b in zip(at, before, strict=True)])


def _along(frame: Frame, divide: bool) -> None:
    """Sums along dims in f64, over their length for the mean."""
    code, x, y = frame.code, frame.inputs[0], frame.outputs[0]
    dims = frame.attrs["dims"]
    assert isinstance(dims, tuple)
    summed = tuple(x.type.shape[d] for d in dims)
    keeps = frame.flag("keepdim")

    def body(place: Expr, at: Coordinates) -> None:
        total = code.local("float64", 1)
        code.store(total, i32(0), tir.const(0.0, "float64"))
        with code.loop(prod(summed)) as k:
            inner = dict(zip(dims, coordinates(k, summed), strict=True))
            outer = [c for i, c in enumerate(at) if not keeps or i not in dims]
            where = [
                inner[i] if i in inner else outer[i - sum(d < i for d in dims)]
                for i in range(len(x.type.shape))
            ]
            number = frame.read(Vectors(code, 1), 0, offset(x, where))
            code.store(total, i32(0), load(total, i32(0)) + tir.Cast("float64", number))
        made = load(total, i32(0))
        if divide:
            made = made / tir.const(float(prod(summed)), "float64")
        v = Vectors(code, 1)
        frame.write(v, 0, place, v.f(tir.Cast("float32", made)))

    each(frame, y, body)


def sum_(frame: Frame) -> None:
    """Sums along dims."""
    _along(frame, divide=False)


def mean(frame: Frame) -> None:
    """Means along dims."""
    _along(frame, divide=True)


SHAPE: dict[str, Builder] = {
    "view": view,
    "permute": permute,
    "slice": slice_,
    "slice_grad": slice_grad,
    "pad": pad,
    "cat": cat,
    "broadcast": broadcast,
    "sum": sum_,
    "mean": mean,
}
