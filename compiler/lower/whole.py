"""Lowering of calls on integers: exact arithmetic, comparisons, choices, and what makes numbers."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from ..formats import I64
from ..ir import Attr, Value
from ..types import Shape, TensorType
from .builder import (
    INTEGERS,
    Builder,
    CallLowering,
    dims_of,
    f32,
    number,
    refuse,
    result_shape,
    shape_of,
)
from .joint import Arg, Call, JointTensor
from .pointwise import broadcast
from .shape import permuted, viewed


def is_whole(b: Builder, arg: Arg) -> bool:
    """Whether an argument is a tensor of integers in the IR too; counts of truth values are not."""
    if not isinstance(arg, JointTensor) or arg.dtype not in INTEGERS:
        return False
    return arg in b.fixed or (arg in b.values and b.values[arg].type.format.is_index)


def made_whole(
    b: Builder, kind: str, inputs: tuple[Value, ...], part: str, shape: Shape, **attributes: Attr
) -> Value:
    """An op whose result is integers."""
    return b.emit(kind, inputs, [(part, TensorType(shape, I64))], **attributes)[0]


def whole_compared(b: Builder, v: Value, value: int, relation: str) -> Value:
    """1 where v relation value, else 0."""
    pair, type_ = (v, uniform(b, (), value)), f32(shape_of(v))
    return b.emit("whole_compare", pair, [(relation, type_)], relation=relation)[0]


def uniform(b: Builder, shape: Shape, value: int) -> Value:
    """One integer everywhere."""
    return made_whole(b, "iota", (), "filled", shape, start=value, step=0)


def whole_of(b: Builder, arg: Arg) -> Value:
    """An argument as integers: a tensor of such, of counts or truth values, or a number."""
    if not isinstance(arg, JointTensor):
        return uniform(b, (), int(number(arg)))
    v = b.of(arg)
    if v.type.format.is_index:
        return v
    return made_whole(b, "to_whole", (v,), "whole", shape_of(v))


def number_of(b: Builder, arg: JointTensor) -> Value:
    """A tensor as numbers; of integers beyond 2^24 the nearest ones."""
    v = b.of(arg)
    return b.one("to_number", (v,), "number", shape_of(v)) if v.type.format.is_index else v


def on_numbers(b: Builder, call: Call) -> Call:
    """The call with numbers in place of integers."""

    def changed(arg: Arg) -> Arg:
        if isinstance(arg, tuple):
            return tuple(map(changed, arg))
        if not isinstance(arg, JointTensor) or not is_whole(b, arg):
            return arg
        other = JointTensor(arg.shape, "float32")
        b.values[other] = number_of(b, arg)
        return other

    return replace(call, args=tuple(map(changed, call.args)))


def function(name: str) -> CallLowering:
    """Lowering of a function of two integers; ``alpha`` scales the second one."""

    def lower(b: Builder, call: Call) -> None:
        x, y, *rest = (whole_of(b, a) for a in call.args)
        shape = result_shape(call)
        if rest and call.args[2] != 1:
            y = made_whole(b, "whole", (y, rest[0]), "scaled", shape_of(y), function="mul")
        b.bind(call, made_whole(b, "whole", (x, y), name, shape, function=name))

    return lower


def negative(b: Builder, call: Call) -> None:
    """0 - x"""
    x = whole_of(b, call.args[0])
    pair = uniform(b, (), 0), x
    b.bind(call, made_whole(b, "whole", pair, "neg", shape_of(x), function="sub"))


def clamp(*, low: int | None = None, high: int | None = None) -> CallLowering:
    """Lowering of bounds, each the argument at that place, or none."""

    def lower(b: Builder, call: Call) -> None:
        v, shape = whole_of(b, call.args[0]), result_shape(call)
        for i, name in ((low, "maximum"), (high, "minimum")):
            if i is not None and (bound := call.args[i]) is not None:
                pair = v, whole_of(b, bound)
                v = made_whole(b, "whole", pair, "clamp", shape, function=name)
        b.bind(call, v)

    return lower


def divided(*, rest: bool, rounding: int | None = None) -> CallLowering:
    """Lowering of a division that rounds down, or of what rests, by a fixed integer."""

    def lower(b: Builder, call: Call) -> None:
        how = "floor" if rounding is None else call.args[rounding]
        by = _fixed(b, call.args[1])
        a = whole_of(b, call.args[0])
        if how != "floor" or by is None or by == 0:
            raise refuse(
                call, "divides integers; a fixed number, not 0, that rounds down ('floor') may"
            )
        shape = shape_of(a)
        b.bind(call, made_whole(b, "whole_divided", (a,), "divided", shape, by=by, rest=rest))

    return lower


def _fixed(b: Builder, arg: Arg) -> int | None:
    found = b.numbers(arg)
    if found is not None:
        return int(found.reshape(-1)[0]) if found.size == 1 else None
    return None if isinstance(arg, JointTensor) else int(number(arg))


def comparison(relation: str) -> CallLowering:
    """Lowering of a comparison of integers."""

    def lower(b: Builder, call: Call) -> None:
        pair = tuple(whole_of(b, a) for a in call.args[:2])
        type_ = f32(result_shape(call))
        b.bind(call, *b.emit("whole_compare", pair, [(relation, type_)], relation=relation))

    return lower


def where(*, chosen: int, other: int, condition: int) -> CallLowering:
    """Lowering of a choice; the arguments' places."""

    def lower(b: Builder, call: Call) -> None:
        shape = result_shape(call)
        c = broadcast(b, b.of(call.args[condition]), shape)
        both = tuple(whole_of(b, call.args[i]) for i in (chosen, other))
        b.bind(call, made_whole(b, "whole_where", (c, *both), "where", shape))

    return lower


def total(*, dims: int | None = None, keepdim: int | None = None) -> CallLowering:
    """Lowering of a sum: the last of running sums."""

    def lower(b: Builder, call: Call) -> None:
        x, shape = whole_of(b, call.args[0]), result_shape(call)
        rank = len(shape_of(x))
        over = dims_of(None if dims is None else call.args[dims], rank)
        kept = tuple(d for d in range(rank) if d not in over)
        count = prod(shape_of(x)[d] for d in over)
        rows = viewed(b, permuted(b, x, (*kept, *over)), (prod(shape), count, 1))
        sums = b.one("cumsum", (rows,), "sums", shape_of(rows))
        last = (prod(shape), 1, 1)
        made = b.one("slice", (sums,), "sum", last, dim=1, start=count - 1, step=1)
        b.bind(call, viewed(b, made if count > 1 else rows, shape))

    return lower


def pad(b: Builder, call: Call) -> None:
    """A border of one integer."""
    x, sides, value = call.args
    assert isinstance(sides, tuple)
    v, fill = whole_of(b, x), int(number(value))
    for i in range(len(sides) // 2):
        dim, low, high = len(shape_of(v)) - 1 - i, sides[2 * i], sides[2 * i + 1]
        assert isinstance(low, int) and isinstance(high, int)
        v = _bordered(b, v, dim, low, high, fill)
    b.bind(call, v)


def _bordered(b: Builder, v: Value, dim: int, low: int, high: int, fill: int) -> Value:
    """Behind ``low`` and ahead of ``high`` integers along a dimension; less than 0 cuts."""

    def sized(n: int) -> Shape:
        return (*shape_of(v)[:dim], n, *shape_of(v)[dim + 1 :])

    size = shape_of(v)[dim] + min(low, 0) + min(high, 0)
    if size != shape_of(v)[dim]:
        start = max(-low, 0)
        v = b.one("slice", (v,), "slice", sized(size), dim=dim, start=start, step=1)
    parts = [v]
    if low > 0:
        parts.insert(0, uniform(b, sized(low), fill))
    if high > 0:
        parts.append(uniform(b, sized(high), fill))
    made = sized(size + max(low, 0) + max(high, 0))
    return b.one("cat", tuple(parts), "padded", made, dim=dim) if len(parts) > 1 else v


def full(*, at: int) -> CallLowering:
    """Lowering of one integer everywhere."""

    def lower(b: Builder, call: Call) -> None:
        b.bind(call, uniform(b, result_shape(call), int(number(call.args[at]))))

    return lower


def expand(b: Builder, call: Call) -> None:
    """Repetition."""
    b.bind(call, repeated(b, whole_of(b, call.args[0]), result_shape(call)))


def repeated(b: Builder, v: Value, shape: Shape) -> Value:
    """Integers repeated to ``shape``."""
    if shape_of(v) == shape:
        return v
    return made_whole(b, "whole", (v, uniform(b, (), 0)), "wide", shape, function="add")


def checked_rows(call: Call, index: np.ndarray, rows: int, *, wraps: bool) -> None:
    """Refuse a constant index that names no row."""
    wrong = (index >= rows) | (index < (-rows if wraps else 0))
    if bool(wrong.any()):
        low, found = -rows if wraps else 0, int(index[wrong][0])
        raise refuse(call, f"names row {found} of {rows}; rows are {low} .. {rows - 1}")


RELATIONS = ("lt", "le", "eq", "ne", "ge", "gt")
OVERLOADS = ("Tensor", "Scalar")
WHOLE: dict[str, CallLowering] = {
    **{
        f"aten.{torch}.{o}": function(name)
        for torch, name in (("add", "add"), ("sub", "sub"), ("mul", "mul"))
        for o in OVERLOADS
    },
    "aten.neg.default": negative,
    "aten.maximum.default": function("maximum"),
    "aten.minimum.default": function("minimum"),
    "aten.clamp.default": clamp(low=1, high=2),
    "aten.clamp_min.default": clamp(low=1),
    "aten.clamp_max.default": clamp(high=1),
    "aten.clamp_min.Tensor": function("maximum"),
    "aten.clamp_max.Tensor": function("minimum"),
    "aten.floor_divide.default": divided(rest=False),
    "aten.floor_divide.Scalar": divided(rest=False),
    "aten.div.Tensor_mode": divided(rest=False, rounding=2),
    "aten.div.Scalar_mode": divided(rest=False, rounding=2),
    "aten.remainder.Scalar": divided(rest=True),
    "aten.remainder.Tensor": divided(rest=True),
    **{f"aten.{r}.{o}": comparison(r) for r in RELATIONS for o in OVERLOADS},
    "aten.where.self": where(condition=0, chosen=1, other=2),
    "aten.masked_fill.Scalar": where(condition=1, chosen=2, other=0),
    "aten.masked_fill.Tensor": where(condition=1, chosen=2, other=0),
    "aten.sum.default": total(),
    "aten.sum.dim_IntList": total(dims=1, keepdim=2),
    "aten.constant_pad_nd.default": pad,
    "aten.expand.default": expand,
}
