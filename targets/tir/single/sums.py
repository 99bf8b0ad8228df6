"""Kernels that reduce in f64: sums, means, squared errors, clips of weights, first scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod

from tvm import tirx as tir

from ...plan.layout import Layout
from ..expr import Expr, Vectors, i32, load, ramp
from ..pointwise.space import memory_dims, memory_strides
from .grid import Single, Spot, rounded
from .loops import Buffers, Join
from .scalar import instant_scale
from .total import add, read, wide

# Shorter ones are made side by side: a vector has a number in each lane.
LONG = 32


def store_wide(v: Vectors, buffer: Expr, index: Expr, layout: Layout, x: Expr) -> None:
    """Round f64 numbers to f32, then to the carrier of a result."""
    v.code.store(buffer, index, rounded(v, v.f(v.cast(x, "float32")), layout.type.format))


def _reduce(b: Buffers, spec: Single, mean: bool) -> None:
    (x,), (y,) = spec.inputs, spec.outputs
    dims = spec.op.ints_attr("dims")
    divisor = float(prod(x.type.shape[d] for d in dims)) if mean else 1.0
    if y.type.elements != 1:
        _reduce_each(b, spec, 0.0, add, divisor)
        return

    def terms(s: Spot) -> list[Expr]:
        return [wide(s.v).cast(read(s, b.inputs[0], x, [x]), "float64")]

    (sum_,) = b.loops.total([x], spec.lanes, terms, [add])
    v = Vectors(b.code, 1)
    store_wide(v, b.outputs[0], i32(0), y, wide(v).div(sum_, wide(v).splat(divisor)))


def _reduce_each(b: Buffers, spec: Single, start: float, join: Join, divisor: float) -> None:
    """One number for each element of the result, vectors along its last dimension in memory."""
    (x,), (y,) = spec.inputs, spec.outputs
    dims = spec.op.ints_attr("dims")
    strides, shape = memory_strides(x), x.type.shape
    length = prod(shape[d] for d in dims)
    if length >= LONG and _lines(x, y, dims):
        _reduce_lines(b, spec, start, join, divisor)
        return
    keep = spec.op.bool_attr("keepdim")
    kept = [d for d in range(len(shape)) if keep or d not in dims]
    own = {i: 0 if d in dims else strides[d] for i, d in enumerate(kept)}
    gone = len(kept)  # a dimension of the box that stands for the place within what is reduced

    def each(s: Spot) -> None:
        v, everything = wide(s.v), ramp(0, s.v.lanes)
        made = b.code.local("float64", v.lanes)
        b.code.store(made, everything, v.splat(start))
        with ExitStack() as stack:
            offset: Expr = i32(0)
            for d in sorted(dims, key=lambda d: -strides[d]):
                offset = offset + stack.enter_context(b.code.loop(shape[d])) * i32(strides[d])
            inside = Spot(s.v, {**s.at, gone: offset}, s.side)
            number = inside.number(b.inputs[0], x, {**own, gone: 1})
            joined = join(load(made, everything), v.f(v.cast(number, "float64")))
            b.code.store(made, everything, joined)
        result = v.div(v.f(load(made, everything)), v.splat(divisor))
        store_wide(s.v, b.outputs[0], s.index(memory_strides(y)), y, result)

    b.loops.over(y.type.shape, memory_dims(y), 8, each, length)


def _lines(x: Layout, y: Layout, dims: Sequence[int]) -> bool:
    """Whether what each number of ``y`` is made of lies together, in the order of ``y``."""
    order = memory_dims(x)
    first = len(order) - len(dims)
    kept = [d for d in order[:first] if x.type.shape[d] > 1]
    same = [d for d in memory_dims(y) if y.type.shape[d] > 1]
    rank = len(x.type.shape)
    if len(y.type.shape) < rank:
        left = [d for d in range(rank) if d not in dims]
        same = [left[d] for d in same]
    return x.parts == 1 and {*order[first:]} == {*dims} and kept == same


def _reduce_lines(b: Buffers, spec: Single, start: float, join: Join, divisor: float) -> None:
    """One number after the other, vectors along what it is made of."""
    (x,), (y,) = spec.inputs, spec.outputs
    length = x.type.elements // y.type.elements

    def terms(s: Spot) -> list[Expr]:
        number = s.number(b.inputs[0], x, {0: 1})
        return [wide(s.v).f(wide(s.v).cast(number, "float64"))]

    def one(row: Expr) -> None:
        (made,) = b.loops.line(length, spec.lanes, terms, [join], start, row * i32(length))
        v = Vectors(b.code, 1)
        store_wide(v, b.outputs[0], row, y, wide(v).div(made, wide(v).splat(divisor)))

    b.loops.rows(y.type.elements, length, one)


def largest(a: Expr, b: Expr) -> Expr:
    """The larger; NaN wins."""
    # Of NaN every comparison is false; and TVM takes "a != a" for false.
    return tir.Select(a > b, a, tir.Select(a <= b, b, a + b))


def sum_(b: Buffers, spec: Single) -> None:
    """Over ``dims``."""
    _reduce(b, spec, mean=False)


def mean(b: Buffers, spec: Single) -> None:
    """The sum over the number of elements."""
    _reduce(b, spec, mean=True)


def max_(b: Buffers, spec: Single) -> None:
    """The largest over ``dims``."""
    _reduce_each(b, spec, -math.inf, largest, 1.0)


def extremes(b: Buffers, spec: Single) -> None:
    """Least and largest, of all elements or of each place of dimension 0."""
    (x,), places = spec.inputs, spec.outputs[0].type.elements

    def terms(s: Spot) -> list[Expr]:
        v = wide(s.v)
        number = v.f(v.cast(read(s, b.inputs[0], x, [x]), "float64"))
        return [v.f(v.splat(0.0) - number), number]

    def put(k: Expr, minus_low: Expr, high: Expr) -> None:
        v = Vectors(b.code, 1)
        b.code.store(b.outputs[0], k, v.f(v.cast(tir.const(0.0, "float64") - minus_low, "float32")))
        b.code.store(b.outputs[1], k, v.f(v.cast(high, "float32")))

    joins: list[Join] = [largest, largest]
    if not spec.outputs[0].type.shape:
        put(i32(0), *b.loops.total([x], spec.lanes, terms, joins, -math.inf))
        return
    each = x.type.elements // places

    def one(k: Expr) -> None:
        put(k, *b.loops.line(each, spec.lanes, terms, joins, -math.inf, k * i32(each)))

    b.loops.rows(places, each, one)


def mse_loss(b: Buffers, spec: Single) -> None:
    """Mean or sum of squared differences."""
    both = spec.inputs

    def terms(s: Spot) -> list[Expr]:
        v = wide(s.v)
        x, y = (
            v.f(v.cast(read(s, buffer, layout, both), "float64"))
            for buffer, layout in zip(b.inputs, both, strict=True)
        )
        difference = v.sub(x, y)
        return [v.mul(difference, difference)]

    (squares,) = b.loops.total(both, spec.lanes, terms, [add])
    v, is_mean = Vectors(b.code, 1), spec.op.word_attr("reduction") == "mean"
    count = float(both[0].type.elements) if is_mean else 1.0
    loss = wide(v).div(squares, wide(v).splat(count))
    store_wide(v, b.outputs[0], i32(0), spec.outputs[0], loss)


def dots(b: Buffers, spec: Single) -> None:
    """Four sums of products."""
    both = spec.inputs

    def terms(s: Spot) -> list[Expr]:
        v = wide(s.v)
        x, y = (
            v.f(v.cast(read(s, buffer, layout, both), "float64"))
            for buffer, layout in zip(b.inputs, both, strict=True)
        )
        away = v.sub(x, y)
        return [v.mul(x, x), v.mul(x, y), v.mul(y, y), v.mul(away, away)]

    sums = b.loops.total(both, spec.lanes, terms, [add] * 4)
    v = Vectors(b.code, 1)
    for buffer, layout, made in zip(b.outputs, spec.outputs, sums, strict=True):
        store_wide(v, buffer, i32(0), layout, made)


def _sizes(s: Spot, buffer: Expr, layout: Layout) -> list[Expr]:
    v = wide(s.v)
    size = v.f(v.cast(s.v.magnitude(read(s, buffer, layout, [layout])), "float64"))
    return [v.mul(size, size), size, size]


SIZES: list[Join] = [add, add, tir.max]


def sawb_clip(b: Buffers, spec: Single) -> None:
    """c1 sqrt(mean w^2) - c2 mean |w|, max |w| where that is not above 0."""
    (w,), (clip,) = spec.inputs, spec.outputs

    def terms(s: Spot) -> list[Expr]:
        return _sizes(s, b.inputs[0], w)

    if not clip.type.shape:
        sums = b.loops.total([w], spec.lanes, terms, SIZES)
        _store_clip(b, spec, i32(0), sums, w.type.elements)
        return
    channels = w.type.shape[0]
    each = w.type.elements // channels

    def one(k: Expr) -> None:
        sums = b.loops.line(each, spec.lanes, terms, SIZES, first=k * i32(each))
        _store_clip(b, spec, k, sums, each)

    b.loops.rows(channels, each, one)


def _store_clip(b: Buffers, spec: Single, k: Expr, sums: list[Expr], count: int) -> None:
    v = Vectors(b.code, 1, "float64")
    squares, sizes, largest = sums
    spread = v.sqrt(v.div(squares, v.splat(float(count))))
    most = v.mul(v.splat(spec.op.float_attr("c1")), spread)
    mean_size = v.div(sizes, v.splat(float(count)))
    clip = v.sub(most, v.mul(v.splat(spec.op.float_attr("c2")), mean_size))
    # Where a weight is NaN the sum of squares is, but perhaps not the largest.
    largest = v.f(v.where(squares <= v.splat(math.inf), largest, squares))
    clip = v.f(v.where(clip > v.splat(0.0), clip, largest))
    b.code.store(b.outputs[0], k, v.cast(clip, "float32"))


def _largest_bits(b: Buffers, spec: Single) -> Expr:
    """The u32 bit pattern of the largest |g|, the second operand."""
    v, g = Vectors(b.code, 1), spec.inputs[1]

    def terms(spot: Spot) -> list[Expr]:
        numbers = read(spot, b.inputs[1], g, [g])
        # Bit patterns of sizes compare as the sizes do, and NaN above all.
        bits = spot.v.bits(numbers) & spot.v.u(0x7FFFFFFF)
        return [wide(spot.v).cast(bits, "float64")]

    (bits,) = b.loops.total([g], spec.lanes, terms, [tir.max])
    return v.hold(v.cast(bits, "uint32"))


def amax_init(b: Buffers, spec: Single) -> None:
    """m; g is read only where m is 0."""
    v = Vectors(b.code, 1)
    m = v.f(load(b.inputs[0], i32(0)))
    b.code.store(b.outputs[0], i32(0), m)
    with b.code.when(m.equal(v.splat(0.0))):
        b.code.store(b.outputs[0], i32(0), v.to_f(_largest_bits(b, spec)))


def grad_scale_init(b: Buffers, spec: Single) -> None:
    """s; g is read only where s is 0, or always."""
    v = Vectors(b.code, 1)
    s = v.f(load(b.inputs[0], i32(0)))
    b.code.store(b.outputs[0], i32(0), s)
    wanted = s.equal(v.splat(0.0))
    if spec.op.bool_attr("always"):
        wanted = tir.const(1, "int32").equal(i32(1))
    with b.code.when(wanted):
        first = instant_scale(b.code, spec.op.float_attr("top"), _largest_bits(b, spec), s)
        b.code.store(b.outputs[0], i32(0), first)


SUMS = {
    "sum": sum_,
    "mean": mean,
    "max": max_,
    "extremes": extremes,
    "mse_loss": mse_loss,
    "dots": dots,
    "sawb_clip": sawb_clip,
    "amax_init": amax_init,
    "grad_scale_init": grad_scale_init,
}
