"""Kernels of the arithmetic of integers; operands repeat along their dimensions of size 1."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx as tir

from ....compiler.ir.ops.whole import LARGEST_WHOLE
from ...plan.layout import Layout
from ..expr import Expr, i32, load
from ..formats import INFINITY, MAGNITUDE
from ..pointwise.math import RELATIONS as OF_NUMBERS
from ..pointwise.space import memory_strides
from .grid import Single, Spot, index_of, natural
from .loops import Buffers

FUNCTIONS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "maximum": tir.max,
    "minimum": tir.min,
}
# Of integers no two are unordered.
RELATIONS = {**OF_NUMBERS, "ne": tir.NE}


def _read(b: Buffers, spec: Single, i: int, s: Spot, rank: int) -> Expr:
    """An operand as 64 bits, at the place of a result of ``rank`` dimensions."""
    x = spec.inputs[i]
    ahead = rank - len(x.type.shape)
    strides = memory_strides(x)
    own = {d: 0 if n == 1 else strides[d] for d, n in enumerate(x.type.shape)}
    at = index_of({d: s.at[d + ahead] for d in own}, own)
    return b.code.let(tir.Cast("int64", load(b.inputs[i], at)), "int64")


def _each(b: Buffers, y: Layout, made: Callable[[Spot], Expr]) -> None:
    shape, dims, strides = natural(y)

    def body(s: Spot) -> None:
        b.code.store(b.outputs[0], s.index(strides), tir.Cast(y.dtype, made(s)))

    b.loops.over(shape, dims, 1, body)


def whole(b: Buffers, spec: Single) -> None:
    """A function of two."""
    (y,), function = spec.outputs, FUNCTIONS[spec.op.word_attr("function")]
    rank = len(y.type.shape)
    _each(b, y, lambda s: function(*(_read(b, spec, i, s, rank) for i in (0, 1))))


def whole_divided(b: Buffers, spec: Single) -> None:
    """Rounded down, whatever the machine's division does with what is negative."""
    (y,), op = spec.outputs, spec.op
    by, rank = op.int_attr("by"), len(y.type.shape)
    divisor, none = tir.const(by, "int64"), tir.const(0, "int64")

    def made(s: Spot) -> Expr:
        a = _read(b, spec, 0, s, rank)
        rest = b.code.let(tir.truncmod(a, divisor), "int64")
        wrong = rest > none if by < 0 else rest < none
        if op.bool_attr("rest"):
            return tir.Select(wrong, rest + divisor, rest)
        return tir.truncdiv(a, divisor) - tir.Select(wrong, tir.const(1, "int64"), none)

    _each(b, y, made)


def whole_compare(b: Buffers, spec: Single) -> None:
    """1 and 0."""
    (y,), relation = spec.outputs, RELATIONS[spec.op.word_attr("relation")]
    shape, dims, strides = natural(y)

    def body(s: Spot) -> None:
        hit = relation(*(_read(b, spec, i, s, len(shape)) for i in (0, 1)))
        s.put(b.outputs[0], y, s.v.f(s.v.where(hit, s.v.splat(1.0), s.v.splat(0.0))), strides)

    b.loops.over(shape, dims, 1, body)


def whole_where(b: Buffers, spec: Single) -> None:
    """One of two."""
    c, (y,) = spec.inputs[0], spec.outputs

    def made(s: Spot) -> Expr:
        number = s.number(b.inputs[0], c)
        # NaN compares as unequal to nothing in TVM.
        size = b.code.let(s.v.bits(number) & s.v.u(MAGNITUDE), "uint32")
        first, second = (_read(b, spec, i, s, len(y.type.shape)) for i in (1, 2))
        return tir.Select(size > s.v.u(0), first, second)

    _each(b, y, made)


def whole_table(b: Buffers, spec: Single) -> None:
    """The integers one by one."""
    for i, number in enumerate(spec.op.ints_attr("numbers")):
        b.code.store(b.outputs[0], i32(i), tir.const(number, spec.outputs[0].dtype))


def to_whole(b: Buffers, spec: Single) -> None:
    """Towards zero, within bounds; NaN is 0."""
    (x,), (y,) = spec.inputs, spec.outputs

    def made(s: Spot) -> Expr:
        number = s.number(b.inputs[0], x)
        size = b.code.let(s.v.bits(number) & s.v.u(MAGNITUDE), "uint32")
        most = float(LARGEST_WHOLE)
        known = s.v.f(s.v.where(size > s.v.u(INFINITY), s.v.splat(0.0), number))
        bound = s.v.f(tir.max(tir.min(known, s.v.splat(most)), s.v.splat(-most)))
        return tir.Cast("int64", bound)

    _each(b, y, made)


def to_number(b: Buffers, spec: Single) -> None:
    """Rounded once."""
    (n,), (y,) = spec.inputs, spec.outputs
    shape, dims, strides = natural(y)

    def body(s: Spot) -> None:
        given = load(b.inputs[0], s.index(memory_strides(n)))
        s.put(b.outputs[0], y, s.v.f(tir.Cast("float32", given)), strides)

    b.loops.over(shape, dims, 1, body)


WHOLE = {
    "whole": whole,
    "whole_divided": whole_divided,
    "whole_compare": whole_compare,
    "whole_where": whole_where,
    "whole_table": whole_table,
    "to_whole": to_whole,
    "to_number": to_number,
}
