"""Lowering of functions of a number, comparisons, choices, variances and masks by place."""

from __future__ import annotations

from math import log, prod

from ..ir import Value
from ..types import Shape
from .builder import (
    INTEGERS,
    Builder,
    CallLowering,
    dims_of,
    number,
    refuse,
    result_shape,
    shape_of,
)
from .joint import Arg, Call, JointTensor
from .pointwise import broadcast, operand, plain, scaled
from .shape import alias, viewed
from .whole import RELATIONS, number_of, whole_compared, whole_of

FUNCTIONS = (
    *("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "sigmoid", "erf"),
    *("abs", "floor", "round", "sqrt", "sign"),
)
FLIPPED = {"lt": "gt", "le": "ge", "eq": "eq", "ne": "ne", "ge": "le", "gt": "lt"}


def function(kind: str) -> CallLowering:
    """Lowering of a function that the IR has too."""

    def lower(b: Builder, call: Call) -> None:
        b.bind(call, b.one(kind, (b.of(call.args[0]),), kind, result_shape(call)))

    return lower


def ceil(b: Builder, call: Call) -> None:
    """-floor(-x)"""
    v = scaled(b, b.of(call.args[0]), -1.0)
    b.bind(call, scaled(b, b.one("floor", (v,), "floor", shape_of(v)), -1.0))


def trunc(b: Builder, call: Call) -> None:
    """sign x * floor |x|"""
    v = b.of(call.args[0])
    size = b.one("abs", (v,), "abs", shape_of(v))
    whole = b.one("floor", (size,), "floor", shape_of(v))
    signs = b.one("sign", (v,), "sign", shape_of(v))
    b.bind(call, b.one("mul", (whole, signs), "trunc", shape_of(v)))


def every(*, dims: int | None = None, keepdim: int | None = None) -> CallLowering:
    """Lowering of "all" on truth values: the least of them."""

    def lower(b: Builder, call: Call) -> None:
        v = scaled(b, b.of(call.args[0]), -1.0)
        over = dims_of(None if dims is None else call.args[dims], len(shape_of(v)))
        keep = keepdim is not None and bool(call.args[keepdim])
        shape = result_shape(call)
        made = b.one("max", (v,), "max", shape, dims=over, keepdim=keep) if over else v
        b.bind(call, scaled(b, made, -1.0))

    return lower


def logarithm(base: float) -> CallLowering:
    """Lowering of a logarithm to another base."""

    def lower(b: Builder, call: Call) -> None:
        natural = b.one("log", (b.of(call.args[0]),), "log", result_shape(call))
        b.bind(call, scaled(b, natural, 1.0 / log(base)))

    return lower


def compared(b: Builder, x: Value, relation: str, value: float) -> Value:
    """1 where x relation value, else 0."""
    return b.one("compare_to", (x,), relation, shape_of(x), relation=relation, value=value)


def comparison(relation: str) -> CallLowering:
    """Lowering of a comparison of tensors or with a number."""

    def lower(b: Builder, call: Call) -> None:
        x, y = call.args[:2]
        shape = result_shape(call)
        left, right = plain(b, x), plain(b, y)
        if right is not None:
            made = compared(b, operand(b, x, shape), relation, right)
        elif left is not None:
            made = compared(b, operand(b, y, shape), FLIPPED[relation], left)
        else:
            both = operand(b, x, shape), operand(b, y, shape)
            made = b.one("compare", both, relation, shape, relation=relation)
        b.bind(call, made)

    return lower


def is_nan(b: Builder, call: Call) -> None:
    """x != x"""
    x = b.of(call.args[0])
    b.bind(call, b.one("compare", (x, x), "isnan", shape_of(x), relation="ne"))


def logic(kind: str) -> CallLowering:
    """Lowering of "and" and "or" on truth values, which are 1 and 0."""

    def lower(b: Builder, call: Call) -> None:
        _need_truth(call)
        shape = result_shape(call)
        both = tuple(operand(b, a, shape) for a in call.args[:2])
        b.bind(call, b.one(kind, both, kind, shape))

    return lower


def either_one(b: Builder, call: Call) -> None:
    """Whether two truth values differ."""
    _need_truth(call)
    shape = result_shape(call)
    both = tuple(operand(b, a, shape) for a in call.args[:2])
    b.bind(call, b.one("compare", both, "xor", shape, relation="ne"))


def inverted(b: Builder, call: Call) -> None:
    """not x"""
    _need_truth(call)
    b.bind(call, compared(b, b.of(call.args[0]), "eq", 0.0))


def _need_truth(call: Call) -> None:
    for arg in call.args:
        if isinstance(arg, JointTensor) and arg.dtype != "bool":
            raise refuse(call, f"works on the bits of {arg.dtype}; only bool is supported")


def either(b: Builder, c: Value, x: Arg, y: Arg, shape: Shape) -> Value:
    """x where c, else y."""
    there, elsewhere = plain(b, x), plain(b, y)
    c = broadcast(b, c, shape)
    if there is not None:
        return b.one("masked", (c, operand(b, y, shape)), "masked", shape, value=there)
    if elsewhere is not None:
        c = compared(b, c, "eq", 0.0)
        return b.one("masked", (c, operand(b, x, shape)), "masked", shape, value=elsewhere)
    both = operand(b, x, shape), operand(b, y, shape)
    return b.one("where", (c, *both), "where", shape)


def where(b: Builder, call: Call) -> None:
    """x where c, else y."""
    c, x, y = call.args
    b.bind(call, either(b, b.of(c), x, y, result_shape(call)))


def masked_fill(b: Builder, call: Call) -> None:
    """A number where c, else x."""
    x, c, value = call.args
    b.bind(call, either(b, b.of(c), value, x, result_shape(call)))


def clamp(*, low: int | None = None, high: int | None = None) -> CallLowering:
    """Lowering of min(max(x, low), high); each limit is the argument at that place, or none."""

    def lower(b: Builder, call: Call) -> None:
        v = b.of(call.args[0])
        least, most = (None if i is None else call.args[i] for i in (low, high))
        if least is not None:
            v = b.one("clamp_min", (v,), "clamp_min", shape_of(v), low=number(least))
        if most is not None:
            v = b.one("clamp_max", (v,), "clamp_max", shape_of(v), high=number(most))
        b.bind(call, v)

    return lower


def clamp_between(b: Builder, call: Call) -> None:
    """min(max(x, low), high) with limits that are tensors, or none."""
    x, low, high = call.args
    v, shape = b.of(x), result_shape(call)
    for kind, limit in (("maximum", low), ("minimum", high)):
        if limit is not None:
            pair = broadcast(b, v, shape), operand(b, limit, shape)
            v = b.one(kind, pair, "clamp", shape)
    b.bind(call, v)


def hardtanh_backward(b: Builder, call: Call) -> None:
    """g strictly between the limits, else 0."""
    g, x, low, high = call.args
    v, made = b.of(x), b.of(g)
    for relation, limit in (("le", low), ("ge", high)):
        outside = compared(b, v, relation, number(limit))
        made = b.one("masked", (outside, made), "dx", shape_of(made), value=0.0)
    b.bind(call, made)


def better(kind: str) -> CallLowering:
    """Lowering of maximum and minimum of two tensors."""

    def lower(b: Builder, call: Call) -> None:
        shape = result_shape(call)
        both = tuple(operand(b, a, shape) for a in call.args[:2])
        b.bind(call, b.one(kind, both, kind, shape))

    return lower


def amin(b: Builder, call: Call) -> None:
    """-max(-x)"""
    x, over, *rest = (*call.args, False)
    v = scaled(b, b.of(x), -1.0)
    dims, keep = dims_of(over, len(shape_of(v))), bool(rest[0])
    made = b.one("max", (v,), "max", result_shape(call), dims=dims, keepdim=keep)
    b.bind(call, scaled(b, made, -1.0))


def variance(b: Builder, call: Call) -> None:
    """Mean of squared distances from the mean, over the count less ``correction``; the mean too
    where the call has two results.
    """
    x, over, correction, *_ = call.args
    v = b.of(x)
    shape, dims = shape_of(v), dims_of(over, len(shape_of(v)))
    wide = tuple(1 if i in dims else n for i, n in enumerate(shape))
    mean = b.one("mean", (v,), "mean", wide, dims=dims, keepdim=True)
    away = b.one("sub", (v, broadcast(b, mean, shape)), "away", shape)
    square = b.one("mul", (away, away), "square", shape)
    made = b.one("mean", (square,), "var", wide, dims=dims, keepdim=True)
    n = prod(shape[d] for d in dims)
    free = n - (1.0 if correction is None else number(correction))
    if free <= 0:
        raise refuse(call, f"takes the variance of {n} numbers with correction {correction}")
    shape = result_shape(call)
    b.bind(call, viewed(b, scaled(b, made, n / free), shape), viewed(b, mean, shape))


def broadcast_in_dim(b: Builder, call: Call) -> None:
    """Dimensions of x go to the places that are named; the others repeat."""
    x, shape_arg, places = call.args
    assert isinstance(shape_arg, tuple) and isinstance(places, tuple)
    shape = result_shape(call)
    v = b.of(x)
    if v in b.constants:
        b.bind(call, b.constant(shape, b.constants[v]))
        return
    sizes = dict(zip(places, shape_of(v), strict=True))
    thin = viewed(b, v, tuple(sizes.get(i, 1) for i in range(len(shape))))
    b.bind(call, broadcast(b, thin, shape))


def to_dtype(b: Builder, call: Call) -> None:
    """Between f32, truth values and integers; a truth value is a count, which is a number."""
    source, made = call.args[0], call.results[0]
    assert isinstance(source, JointTensor) and made is not None
    v = b.of(source)
    whole = v.type.format.is_index
    if made.dtype == "bool" and whole:
        b.bind(call, whole_compared(b, v, 0, "ne"))
    elif made.dtype == "bool" and source.dtype != "bool":
        b.bind(call, compared(b, v, "ne", 0.0))
    elif made.dtype in INTEGERS and source.dtype == "float32":
        b.bind(call, whole_of(b, source))
    elif made.dtype == "float32":
        b.bind(call, number_of(b, source))
    elif made.dtype in ("bool", *INTEGERS):
        alias(b, call)
    else:
        raise refuse(call, f"turns {source.dtype} into {made.dtype}; compute in float32")


def triangle(*, upper: bool) -> CallLowering:
    """Lowering of tril and triu."""

    def lower(b: Builder, call: Call) -> None:
        x, diagonal = b.of(call.args[0]), call.args[1]
        assert isinstance(diagonal, int)
        shape, edge = result_shape(call), diagonal - 1 if upper else diagonal
        mask = b.one("triangle", (), "triangle", shape, diagonal=edge)
        mask = compared(b, mask, "eq", 0.0) if upper else mask
        if b.constants.get(x) == 1.0:
            b.bind(call, mask)
            return
        outside = compared(b, mask, "eq", 0.0)
        b.bind(call, b.one("masked", (outside, x), "masked", shape, value=0.0))

    return lower


MATH: dict[str, CallLowering] = {
    **{f"aten.{kind}.default": function(kind) for kind in FUNCTIONS},
    "aten.sgn.default": function("sign"),
    "aten.log2.default": logarithm(2.0),
    "aten.log10.default": logarithm(10.0),
    **{f"aten.{r}.{o}": comparison(r) for r in RELATIONS for o in ("Scalar", "Tensor")},
    "aten.isnan.default": is_nan,
    **{
        f"aten.{name}{end}": logic(kind)
        for word, kind in (("and", "mul"), ("or", "maximum"))
        for name, end in ((f"logical_{word}", ".default"), (f"bitwise_{word}", ".Tensor"))
    },
    "aten.logical_xor.default": either_one,
    "aten.bitwise_xor.Tensor": either_one,
    "aten.all.default": every(),
    "aten.all.dim": every(dims=1, keepdim=2),
    "aten.all.dims": every(dims=1, keepdim=2),
    "aten.ceil.default": ceil,
    "aten.trunc.default": trunc,
    "aten.logical_not.default": inverted,
    "aten.bitwise_not.default": inverted,
    "aten.where.self": where,
    "aten.masked_fill.Scalar": masked_fill,
    "aten.masked_fill.Tensor": masked_fill,
    "aten.clamp.default": clamp(low=1, high=2),
    "aten.clamp.Tensor": clamp_between,
    "aten.clamp_min.default": clamp(low=1),
    "aten.clamp_max.default": clamp(high=1),
    "aten.hardtanh.default": clamp(low=1, high=2),
    "aten.hardtanh_backward.default": hardtanh_backward,
    "aten.maximum.default": better("maximum"),
    "aten.minimum.default": better("minimum"),
    "aten.clamp_min.Tensor": better("maximum"),
    "aten.clamp_max.Tensor": better("minimum"),
    "aten.amin.default": amin,
    "prims.var.default": variance,
    "aten.var.correction": variance,
    "aten.var_mean.correction": variance,
    "prims.broadcast_in_dim.default": broadcast_in_dim,
    "aten._to_copy.default": to_dtype,
    "prims.convert_element_type.default": to_dtype,
    "aten.tril.default": triangle(upper=False),
    "aten.triu.default": triangle(upper=True),
}
