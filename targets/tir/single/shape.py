"""Kernels that move elements: view, permute, cat, slice, slice_grad, pad, constant.

Nearly all are copies of a box whose addresses are sums of place times stride on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import gcd, prod

from tvm import tirx as tir

from ...plan.layout import Layout
from ..expr import Expr, i32, load, packed_place
from ..formats import round_carrier, to_memory
from ..pointwise.space import memory_dims, memory_strides
from .grid import Single, Spot, index_of
from .loops import Buffers, Loops

Strides = Mapping[int, int]


def copy_box(
    loops: Loops,
    lanes: int,
    shape: tuple[int, ...],
    source: tuple[Expr, Layout, Strides, int],
    target: tuple[Expr, Layout, Strides, int],
) -> None:
    """Copy a box: buffer, layout (for the format), strides and first element on both sides."""
    (a, from_, from_strides, from_start), (b, to, to_strides, to_start) = source, target

    def body(s: Spot) -> None:
        if from_.type.format == to.type.format:
            raw = s.raw(a, from_.dtype, from_strides, from_start)
            loops.code.store(b, s.index(to_strides, to_start), raw)
        else:
            x = s.number(a, from_, from_strides, from_start)
            s.put(b, to, x, to_strides, to_start)

    # Sizes of 1 first, then from the largest stride to the smallest.
    dims = sorted(range(len(shape)), key=lambda d: (shape[d] > 1, -to_strides.get(d, 0)))
    if loops.aligned:
        steps = [s[d] for s in (from_strides, to_strides) for d in dims[:-1] if d in s]
        together = gcd(*steps, from_start, to_start)
        lanes = min(lanes, together & -together) if together else lanes
    loops.over(shape, dims, lanes, body)


def fill_all(loops: Loops, lanes: int, buffer: Expr, layout: Layout, value: float) -> None:
    """The same number everywhere."""

    def body(s: Spot) -> None:
        x = s.v.f(s.v.splat(value))
        number = to_memory(s.v, round_carrier(s.v, x, layout.type.format), layout.type.format)
        loops.code.store(buffer, s.index({0: 1}), number)

    loops.over((layout.type.elements,), (0,), lanes, body)


def row_strides(shape: tuple[int, ...]) -> dict[int, int]:
    """Strides of the logical row-major order."""
    return {d: prod(shape[d + 1 :]) for d in range(len(shape))}


def row_major(layout: Layout) -> bool:
    """Whether the memory order is the logical one."""
    big = [d for d in memory_dims(layout) if layout.type.shape[d] > 1]
    return big == sorted(big)


def permute(b: Buffers, spec: Single) -> None:
    """Dimension i of the result is dimension ``dims[i]`` of x."""
    (x,), (y,) = spec.inputs, spec.outputs
    strides, dims = memory_strides(x), spec.op.ints_attr("dims")
    source = {i: strides[d] for i, d in enumerate(dims)}
    copy_box(
        b.loops,
        spec.lanes,
        y.type.shape,
        (b.inputs[0], x, source, 0),
        (b.outputs[0], y, memory_strides(y), 0),
    )


def cat(b: Buffers, spec: Single) -> None:
    """One operand after another along ``dim``."""
    (y,), dim, start = spec.outputs, spec.op.int_attr("dim"), 0
    strides = memory_strides(y)
    for buffer, x in zip(b.inputs, spec.inputs, strict=True):
        source = (buffer, x, memory_strides(x), 0)
        target = (b.outputs[0], y, strides, start * strides[dim])
        copy_box(b.loops, spec.lanes, x.type.shape, source, target)
        start += x.type.shape[dim]


def _stepped(spec: Single, whole: Layout) -> tuple[Strides, int]:
    strides = memory_strides(whole)
    dim, start, step = (spec.op.int_attr(k) for k in ("dim", "start", "step"))
    return {**strides, dim: strides[dim] * step}, start * strides[dim]


def slice_(b: Buffers, spec: Single) -> None:
    """start, start + step, ... along ``dim``."""
    (x,), (y,) = spec.inputs, spec.outputs
    source = (b.inputs[0], x, *_stepped(spec, x))
    target = (b.outputs[0], y, memory_strides(y), 0)
    copy_box(b.loops, spec.lanes, y.type.shape, source, target)


def slice_grad(b: Buffers, spec: Single) -> None:
    """Zeros but for the slice."""
    (g,), (dx,) = spec.inputs, spec.outputs
    fill_all(b.loops, spec.lanes, b.outputs[0], dx, 0.0)
    source = (b.inputs[0], g, memory_strides(g), 0)
    target = (b.outputs[0], dx, *_stepped(spec, dx))
    copy_box(b.loops, spec.lanes, g.type.shape, source, target)


def pad(b: Buffers, spec: Single) -> None:
    """A border of ``value`` around x."""
    (x,), (y,) = spec.inputs, spec.outputs
    fill_all(b.loops, spec.lanes, b.outputs[0], y, spec.op.float_attr("value"))
    strides = memory_strides(y)
    start = sum(n * strides[d] for d, n in enumerate(spec.op.ints_attr("before")))
    source = (b.inputs[0], x, memory_strides(x), 0)
    target = (b.outputs[0], y, strides, start)
    copy_box(b.loops, spec.lanes, x.type.shape, source, target)


def constant(b: Buffers, spec: Single) -> None:
    """``value`` everywhere."""
    fill_all(b.loops, spec.lanes, b.outputs[0], spec.outputs[0], spec.op.float_attr("value"))


def view(b: Buffers, spec: Single) -> None:
    """The same elements in logical order; the scale stays."""
    (x,), (y,) = spec.inputs, spec.outputs
    if x.scales:
        with b.code.loop(x.scales) as k:
            b.code.store(b.output_scales[0], k, load(b.input_scales[0], k))
    if max(x.parts, y.parts) > 1:
        _view_packed(b, x, y)
        return
    source, target = memory_strides(x), memory_strides(y)
    a, c = (b.inputs[0], x), (b.outputs[0], y)
    if row_major(y):
        linear = row_strides(x.type.shape)
        copy_box(b.loops, spec.lanes, x.type.shape, (*a, source, 0), (*c, linear, 0))
    elif row_major(x):
        linear = row_strides(y.type.shape)
        copy_box(b.loops, spec.lanes, y.type.shape, (*a, linear, 0), (*c, target, 0))
    else:
        b.loops.over(y.type.shape, memory_dims(y), 1, _one_by_one(b, x, y))


def _one_by_one(b: Buffers, x: Layout, y: Layout) -> Callable[[Spot], None]:
    def body(s: Spot) -> None:
        places = unravel(s.index(row_strides(y.type.shape)), x.type.shape)
        raw = Spot(s.v, places, -1).raw(b.inputs[0], x.dtype, memory_strides(x))
        b.code.store(b.outputs[0], s.index(memory_strides(y)), raw)

    return body


def unravel(index: Expr, shape: tuple[int, ...]) -> dict[int, Expr]:
    """The place along each dimension of a row-major index."""
    strides = row_strides(shape)
    return {
        d: tir.floormod(tir.floordiv(index, i32(strides[d])), i32(max(n, 1)))
        for d, n in enumerate(shape)
    }


def _view_packed(b: Buffers, x: Layout, y: Layout) -> None:
    """Byte by byte of the result, each code fetched from where it lies."""
    code, bits = b.code, y.type.format.storage_bits

    def body(s: Spot) -> None:
        row, j = s.at[0], s.at[1]
        byte = code.local("uint8", 1)
        code.store(byte, i32(0), tir.const(0, "uint8"))
        for part in range(y.parts):
            channel = j + i32(part * y.cell)
            with code.when(channel < i32(y.channels)):
                found = _code_at(b, x, _logical(y, row, channel))
                shifted = found << tir.const(part * bits, "uint8")
                code.store(byte, i32(0), load(byte, i32(0)) | shifted)
        code.store(b.outputs[0], row * i32(y.cell) + j, load(byte, i32(0)))

    b.loops.over((y.rows, y.cell), (0, 1), 1, body)


def _logical(y: Layout, row: Expr, channel: Expr) -> Expr:
    """The row-major index of an element of a row of memory."""
    dims, shape = memory_dims(y), y.type.shape
    if not dims:
        return i32(0)
    outer = unravel(row, tuple(shape[d] for d in dims[:-1]))
    places = {**{dims[i]: place for i, place in outer.items()}, dims[-1]: channel}
    return index_of(places, row_strides(shape))


def _code_at(b: Buffers, x: Layout, index: Expr) -> Expr:
    """The code of the element with a row-major index."""
    dims, places = memory_dims(x), unravel(index, x.type.shape)
    shape = tuple(x.type.shape[d] for d in dims)
    strides = row_strides(shape[:-1])
    row: Expr = i32(0)
    for i, d in enumerate(dims[:-1]):
        row = row + places[d] * i32(strides[i])
    channel = places[dims[-1]] if dims else i32(0)
    part, place = packed_place(channel, x.cell, x.parts)
    byte = load(b.inputs[0], row * i32(x.cell) + place)
    bits = x.type.format.storage_bits
    shift = tir.Cast("uint8", part * i32(bits))
    return (byte >> shift) & tir.const((1 << bits) - 1, "uint8")


SHAPE = {
    "view": view,
    "permute": permute,
    "cat": cat,
    "slice": slice_,
    "slice_grad": slice_grad,
    "pad": pad,
    "constant": constant,
}
