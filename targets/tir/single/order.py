"""Kernels that find places and add up along the middle one of three dimensions."""

from __future__ import annotations

from tvm import tirx as tir

from ...plan.layout import Layout
from ..expr import Expr, Vectors, i32, load
from ..formats import INFINITY, MAGNITUDE
from ..pointwise.space import memory_strides
from .grid import Single, Spot
from .loops import Buffers


def _key(b: Buffers, x: Layout, at: Spot) -> Expr:
    """An integer in whose order numbers are, both zeros alike and NaN behind infinity."""
    v = at.v
    bits = b.code.let(v.signed(v.bits(at.number(b.inputs[0], x))), "int32")
    size = b.code.let(bits & i32(MAGNITUDE), "int32")
    signed = tir.Select(bits < i32(0), i32(0) - size, size)
    return b.code.let(tir.Select(size > i32(INFINITY), i32(MAGNITUDE), signed), "int32")


def _along(s: Spot, row: Expr) -> Spot:
    return Spot(s.v, {0: s.at[0], 1: row, 2: s.at[2]}, -1)


def order(b: Buffers, spec: Single) -> None:
    """The place of each element is the number of those ahead of it."""
    (x,), (index,) = spec.inputs, spec.outputs
    down, rows = spec.op.bool_attr("descending"), x.type.shape[1]

    def body(s: Spot) -> None:
        own, ahead = _key(b, x, _along(s, s.at[1])), b.code.local("int32", 1)
        b.code.store(ahead, i32(0), i32(0))
        with b.code.loop(rows) as r:
            other = _key(b, x, _along(s, r))
            first = other > own if down else other < own
            before = tir.any(first, tir.all(other.equal(own), r < s.at[1]))
            one = tir.Select(before, i32(1), i32(0))
            b.code.store(ahead, i32(0), load(ahead, i32(0)) + one)
        at = _along(s, load(ahead, i32(0))).index(memory_strides(index))
        b.code.store(b.outputs[0], at, tir.Cast(index.dtype, s.at[1]))

    b.loops.over(x.type.shape, (0, 1, 2), 1, body)


def argmax(b: Buffers, spec: Single) -> None:
    """Whatever is larger than all before it."""
    (x,), (index,) = spec.inputs, spec.outputs
    left, rows, right = x.type.shape

    def body(s: Spot) -> None:
        best, found = b.code.local("int32", 1), b.code.local("int32", 1)
        b.code.store(found, i32(0), i32(0))
        b.code.store(best, i32(0), i32(-MAGNITUDE))
        with b.code.loop(rows) as r:
            key = _key(b, x, Spot(s.v, {0: s.at[0], 1: r, 2: s.at[1]}, -1))
            with b.code.when(key > load(best, i32(0))):
                b.code.store(best, i32(0), key)
                b.code.store(found, i32(0), r)
        at = s.index(memory_strides(index))
        b.code.store(b.outputs[0], at, tir.Cast(index.dtype, load(found, i32(0))))

    b.loops.over((left, right), (0, 1), 1, body)


def cumsum(b: Buffers, spec: Single) -> None:
    """One after another, in f64 or in integers."""
    (x,), (y,) = spec.inputs, spec.outputs
    left, rows, right = x.type.shape
    whole = y.type.format.is_index
    dtype = "int64" if whole else "float64"

    def body(s: Spot) -> None:
        total, v = b.code.local(dtype, 1), Vectors(b.code, 1, dtype)
        b.code.store(total, i32(0), tir.const(0, dtype))
        with b.code.loop(rows) as r:
            at = Spot(s.v, {0: s.at[0], 1: r, 2: s.at[1]}, -1)
            if whole:
                term = tir.Cast(dtype, load(b.inputs[0], at.index(memory_strides(x))))
            else:
                term = v.cast(at.number(b.inputs[0], x), dtype)
            b.code.store(total, i32(0), load(total, i32(0)) + term)
            if whole:
                made = tir.Cast(y.dtype, load(total, i32(0)))
                b.code.store(b.outputs[0], at.index(memory_strides(y)), made)
            else:
                at.put(b.outputs[0], y, s.v.f(v.cast(load(total, i32(0)), "float32")))

    b.loops.over((left, right), (0, 1), 1, body)


ORDER = {"order": order, "argmax": argmax, "cumsum": cumsum}
