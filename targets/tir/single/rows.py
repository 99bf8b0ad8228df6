"""Kernels that read, write and add rows by index, along the middle one of three dimensions.

What is added is added by one thread, in the order of the indices.
"""

from __future__ import annotations

from math import nan, prod

from tvm import tirx as tir

from ...plan.layout import Layout
from ..expr import Code, Expr, Vectors, i32, load
from ..pointwise.space import memory_strides
from .grid import Single, Spot, index_of
from .loops import Buffers
from .shape import unravel


def named(
    code: Code, buffer: Expr, at: Expr, index: Layout, rows: int, *, wraps: bool
) -> tuple[Expr, Expr]:
    """The row that an index names, within bounds, and whether it names one."""
    dtype = index.dtype
    size, none = tir.const(rows, dtype), tir.const(0, dtype)
    given = load(buffer, at)
    if wraps:
        given = tir.Select(given < none, given + size, given)
    given = code.let(given, dtype)
    row = tir.Cast("int32", tir.max(tir.min(given, size - tir.const(1, dtype)), none))
    return code.let(row, "int32"), tir.all(given >= none, given < size)


def _kept(b: Buffers, s: Spot, i: int, x: Layout, at: Spot, y: Layout, inside: Expr) -> None:
    """Store an element of operand ``i``, or what says that there is none."""
    if y.type.format.is_index:
        raw = load(b.inputs[i], at.index(memory_strides(x)))
        made = tir.Select(inside, raw, tir.const(-1, y.dtype))
        b.code.store(b.outputs[0], s.index(memory_strides(y)), made)
        return
    number = at.number(b.inputs[i], x, memory_strides(x))
    s.put(b.outputs[0], y, s.v.f(s.v.where(inside, number, s.v.splat(nan))))


def _lanes(b: Buffers, spec: Single, y: Layout) -> int:
    return 1 if b.loops.aligned or y.type.format.is_index else spec.lanes


def take(b: Buffers, spec: Single) -> None:
    """Rows of x."""
    (x, index), (y,) = spec.inputs, spec.outputs
    rank, where = len(y.type.shape), memory_strides(index)
    wraps = spec.op.bool_attr("wraps")

    def body(s: Spot) -> None:
        at = index_of({d: s.at[d + 1] for d in where}, where)
        row, inside = named(b.code, b.inputs[1], at, index, x.type.shape[1], wraps=wraps)
        source = Spot(s.v, {0: s.at[0], 1: row, 2: s.at[rank - 1]}, 2)
        _kept(b, s, 0, x, source, y, inside)

    b.loops.over(y.type.shape, tuple(range(rank)), _lanes(b, spec, y), body)


def take_grad(b: Buffers, spec: Single) -> None:
    """A thread for some columns adds all rows of g that belong there."""
    (g, index), (dx,) = spec.inputs, spec.outputs
    left, rows, right = dx.type.shape
    where, strides = memory_strides(index), memory_strides(g)
    rank, count = len(g.type.shape), prod(index.type.shape)
    wraps, code = spec.op.bool_attr("wraps"), b.code

    def body(s: Spot) -> None:
        _clear(b, s, dx)
        with code.loop(count) as i:
            places = unravel(i, index.type.shape)
            at = index_of(places, where)
            row, inside = named(code, b.inputs[1], at, index, rows, wraps=wraps)
            with code.when(inside):
                inner = {d + 1: place for d, place in places.items()}
                source = Spot(s.v, {0: s.at[0], **inner, rank - 1: s.at[1]}, rank - 1)
                _add(b, _row(s, row), dx, source.number(b.inputs[0], g, strides))

    b.loops.over((left, right), (0, 1), _lanes(b, spec, dx), body)


def _row(s: Spot, row: Expr) -> Spot:
    """Some columns of a row of the result."""
    return Spot(s.v, {0: s.at[0], 1: row, 2: s.at[1]}, 2)


def _clear(b: Buffers, s: Spot, dx: Layout) -> None:
    with b.code.loop(dx.type.shape[1]) as r:
        _row(s, r).put(b.outputs[0], dx, s.v.f(s.v.splat(0.0)))


def _add(b: Buffers, at: Spot, dx: Layout, number: Expr) -> None:
    at.put(b.outputs[0], dx, at.v.add(at.number(b.outputs[0], dx), number))


def gather(b: Buffers, spec: Single) -> None:
    """Each element from a row of its own."""
    (x, index), (y,) = spec.inputs, spec.outputs
    where = memory_strides(index)

    def body(s: Spot) -> None:
        at = index_of(s.at, where)
        row, inside = named(b.code, b.inputs[1], at, index, x.type.shape[1], wraps=False)
        _kept(b, s, 0, x, Spot(s.v, {**s.at, 1: row}, -1), y, inside)

    b.loops.over(y.type.shape, (0, 1, 2), 1, body)


def gather_grad(b: Buffers, spec: Single) -> None:
    """A thread for a column adds all that belongs there."""
    (g, index), (dx,) = spec.inputs, spec.outputs
    left, rows, right = dx.type.shape
    where = memory_strides(index)

    def body(s: Spot) -> None:
        _clear(b, s, dx)
        with b.code.loop(g.type.shape[1]) as k:
            at = {0: s.at[0], 1: k, 2: s.at[1]}
            row, inside = named(b.code, b.inputs[1], index_of(at, where), index, rows, wraps=False)
            with b.code.when(inside):
                _add(b, _row(s, row), dx, Spot(s.v, at, -1).number(b.inputs[0], g))

    b.loops.over((left, right), (0, 1), 1, body)


def scatter(b: Buffers, spec: Single) -> None:
    """A thread for a column copies it and then writes what belongs there."""
    (x, index, y), (z,) = spec.inputs, spec.outputs
    left, rows, right = z.type.shape
    where = memory_strides(index)

    def body(s: Spot) -> None:
        with b.code.loop(rows) as r:
            _copy(b, 0, x, _row(s, r), _row(s, r), z)
        with b.code.loop(y.type.shape[1]) as k:
            at = {0: s.at[0], 1: k, 2: s.at[1]}
            row, inside = named(b.code, b.inputs[1], index_of(at, where), index, rows, wraps=False)
            with b.code.when(inside):
                _copy(b, 2, y, Spot(s.v, at, -1), _row(s, row), z)
        if not z.type.format.is_index:
            _tell(b, s, index, z)

    b.loops.over((left, right), (0, 1), 1, body)


def _copy(b: Buffers, i: int, x: Layout, source: Spot, target: Spot, z: Layout) -> None:
    if z.type.format.is_index:
        raw = load(b.inputs[i], source.index(memory_strides(x)))
        b.code.store(b.outputs[0], target.index(memory_strides(z)), raw)
    else:
        target.put(b.outputs[0], z, source.number(b.inputs[i], x))


def _tell(b: Buffers, s: Spot, index: Layout, z: Layout) -> None:
    """NaN in row 0 of a column with a wrong index, which what is written behind must not hide."""
    where, v = memory_strides(index), Vectors(b.code, 1)
    with b.code.loop(index.type.shape[1]) as k:
        at = index_of({0: s.at[0], 1: k, 2: s.at[1]}, where)
        _, inside = named(b.code, b.inputs[1], at, index, z.type.shape[1], wraps=False)
        with b.code.when(tir.Not(inside)):
            _row(s, i32(0)).put(b.outputs[0], z, v.f(v.splat(nan)))


def place(b: Buffers, spec: Single) -> None:
    """Row-major."""
    (n,), op = spec.outputs, spec.op
    dims, wraps = tuple(range(len(n.type.shape))), op.bool_attr("wraps")

    def body(s: Spot) -> None:
        total, every = tir.const(0, n.dtype), tir.const(True, "bool")
        for buffer, x, size in zip(b.inputs, spec.inputs, op.ints_attr("sizes"), strict=True):
            at = s.index(memory_strides(x))
            row, inside = named(b.code, buffer, at, x, size, wraps=wraps)
            total = total * tir.const(size, n.dtype) + tir.Cast(n.dtype, row)
            every = tir.all(every, inside)
        made = tir.Select(every, total, tir.const(-1, n.dtype))
        b.code.store(b.outputs[0], s.index(memory_strides(n)), made)

    b.loops.over(n.type.shape, dims, 1, body)


ROWS = {
    "take": take,
    "take_grad": take_grad,
    "gather": gather,
    "gather_grad": gather_grad,
    "scatter": scatter,
    "place": place,
}
