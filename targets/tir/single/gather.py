"""Kernels that read or write at places out of tables: embeddings, resampling, masks by place."""

from __future__ import annotations

from math import inf, nan

from tvm import tirx as tir

from ..expr import Expr, Vectors, i32, load, ramp
from ..pointwise.space import memory_strides
from .grid import Single, Spot, natural
from .loops import Buffers
from .rows import named


def resample(b: Buffers, spec: Single) -> None:
    """A sparse matrix acts along ``dim``."""
    (x,), (y,), op = spec.inputs, spec.outputs, spec.op
    dim, v = op.int_attr("dim"), Vectors(b.code, 1)
    strides, own = memory_strides(x), memory_strides(y)
    shape, dims, _ = natural(y)
    # The dimension of the table goes ahead of the side of the vectors, where there is another.
    order = [d for d in dims if d != dim]
    order = [*order[:-1], dim, *order[-1:]]
    with (
        b.loops.table("int32", op.ints_attr("starts")) as starts,
        b.loops.table("int32", op.ints_attr("index")) as index,
        b.loops.table("float32", op.floats_attr("weights")) as weights,
    ):

        def body(s: Spot) -> None:
            i = s.at[dim]
            begin = b.code.let(starts(i), "int32")
            end = b.code.let(starts(i + i32(1)), "int32")
            sum_ = b.code.local("float32", s.v.lanes)
            everything = ramp(0, s.v.lanes)
            b.code.store(sum_, everything, s.v.splat(0.0))
            with b.code.loop(end - begin) as k:
                place = b.code.let(index(begin + k), "int32")
                number = Spot(s.v, {**s.at, dim: place}, s.side).number(b.inputs[0], x, strides)
                term = s.v.mul(s.v.splat(v.f(weights(begin + k))), number)
                b.code.store(sum_, everything, s.v.add(s.v.f(load(sum_, everything)), term))
            s.put(b.outputs[0], y, s.v.f(load(sum_, everything)), own)

        lanes = 1 if order[-1] == dim else spec.lanes
        b.loops.over(shape, order, lanes, body)


def embedding(b: Buffers, spec: Single) -> None:
    """Rows of w; NaN where there is none, as a GPU is told of a wrong index later."""
    w, index = spec.inputs
    (y,) = spec.outputs
    own, table = memory_strides(y), memory_strides(w)
    rank, rows = len(y.type.shape), memory_strides(index)

    def body(s: Spot) -> None:
        at, count = _outer(s, rows), w.type.shape[0]
        row, inside = named(b.code, b.inputs[1], at, index, count, wraps=False)
        number = Spot(s.v, {0: row, 1: s.at[rank - 1]}, 1).number(b.inputs[0], w, table)
        s.put(b.outputs[0], y, s.v.f(s.v.where(inside, number, s.v.splat(nan))), own)

    b.loops.over(y.type.shape, tuple(range(rank)), spec.lanes, body)


def _outer(s: Spot, strides: dict[int, int]) -> Expr:
    """The index of a spot in a value that lacks its last dimension."""
    offset: Expr = i32(0)
    for d, stride in strides.items():
        offset = offset + s.at[d] * i32(stride)
    return offset


def iota(b: Buffers, spec: Single) -> None:
    """start, start + step, ..."""
    (y,), op = spec.outputs, spec.op
    start, step = (tir.const(op.int_attr(k), y.dtype) for k in ("start", "step"))

    def body(s: Spot) -> None:
        i = s.at[0]
        b.code.store(b.outputs[0], i, start + tir.Cast(y.dtype, i) * step)

    b.loops.over((y.type.elements,), (0,), 1, body)


def triangle(b: Buffers, spec: Single) -> None:
    """1 where column - row is at most ``diagonal``."""
    (y,) = spec.outputs
    shape, _, strides = natural(y)
    rank, diagonal = len(shape), spec.op.int_attr("diagonal")

    def body(s: Spot) -> None:
        inside = s.at[rank - 1] - s.at[rank - 2] <= i32(diagonal)
        one = s.v.where(inside, s.v.splat(1.0), s.v.splat(0.0))
        s.put(b.outputs[0], y, s.v.f(one), strides)

    b.loops.over(shape, tuple(range(rank)), 1, body)


def hard_choice(b: Buffers, spec: Single) -> None:
    """1 at the first of the largest numbers of a row; at the first of all where none is larger."""
    (x,), (y,) = spec.inputs, spec.outputs
    (rows, choices), v = x.type.shape, Vectors(b.code, 1)

    def one(s: Spot) -> None:
        n, best, place = s.at[0], b.code.local("float32", 1), b.code.local("int32", 1)
        b.code.store(best, i32(0), v.splat(-inf))
        b.code.store(place, i32(0), i32(0))
        with b.code.loop(choices) as k:
            number = Spot(v, {0: n, 1: k}, -1).number(b.inputs[0], x)
            with b.code.when(number > load(best, i32(0))):
                b.code.store(best, i32(0), number)
                b.code.store(place, i32(0), k)
        with b.code.loop(choices) as k:
            hit = load(place, i32(0)).equal(k)
            made = v.f(v.where(hit, v.splat(1.0), v.splat(0.0)))
            Spot(v, {0: n, 1: k}, -1).put(b.outputs[0], y, made)

    b.loops.over((rows,), (0,), 1, one)


def table(b: Buffers, spec: Single) -> None:
    """The numbers one by one."""
    for i, number in enumerate(spec.op.floats_attr("numbers")):
        b.code.store(b.outputs[0], i32(i), tir.const(number, "float32"))


def one_hot(b: Buffers, spec: Single) -> None:
    """1 at the class of each target."""
    (target,), (y,) = spec.inputs, spec.outputs
    shape, dims, strides = natural(y)
    ignored = tir.const(spec.op.int_attr("ignore_index"), target.dtype)
    outer = {0: 0, **{d: d - 1 for d in range(2, len(shape))}}
    rows = memory_strides(target)

    def body(s: Spot) -> None:
        at = Spot(s.v, {outer[d]: place for d, place in s.at.items() if d != 1}, -1)
        label = load(b.inputs[0], at.index(rows))
        hit = tir.all(label.equal(tir.Cast(target.dtype, s.at[1])), tir.NE(label, ignored))
        s.put(b.outputs[0], y, s.v.f(s.v.where(hit, s.v.splat(1.0), s.v.splat(0.0))), strides)

    b.loops.over(shape, dims, 1, body)


GATHER = {
    "resample": resample,
    "embedding": embedding,
    "iota": iota,
    "triangle": triangle,
    "one_hot": one_hot,
    "hard_choice": hard_choice,
    "table": table,
}
