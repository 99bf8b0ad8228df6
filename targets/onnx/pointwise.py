"""Pointwise ops, functions of a number and reductions in ONNX."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from .elements import ElementType
from .frame import Context, Lower

# Functions that ONNX has by another name, or the same.
UNARY = {
    "relu": "Relu",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "round": "Round",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "cos": "Cos",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "erf": "Erf",
}
BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "maximum": "Max",
    "minimum": "Min",
}
REDUCE = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax"}
RELATIONS = {
    "lt": "Less",
    "le": "LessOrEqual",
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
}


def unary(c: Context, op: Op) -> str:
    """One node."""
    return c.g.op(UNARY[op.kind], c.real(op.inputs[0]))


def binary(c: Context, op: Op) -> str:
    """One node."""
    return c.g.op(BINARY[op.kind], *(c.beside(op, i) for i in range(2)))


def relation(c: Context, word: str, a: str, b: str) -> str:
    """Truth values, 1 and 0."""
    return c.g.op("Cast", holds(c, word, a, b), to=ElementType.FLOAT.value)


def holds(c: Context, word: str, a: str, b: str) -> str:
    """Truth values as ONNX has them."""
    if word == "ne":
        return c.g.op("Not", c.g.op("Equal", a, b))
    return c.g.op(RELATIONS[word], a, b)


def truth(c: Context, x: str) -> str:
    """Where numbers are not 0."""
    return c.g.op("Cast", x, to=ElementType.BOOL.value)


def compare(c: Context, op: Op) -> str:
    """Of two tensors."""
    return relation(c, op.word_attr("relation"), *(c.beside(op, i) for i in range(2)))


def compare_to(c: Context, op: Op) -> str:
    """With a number."""
    number = c.g.f32(op.float_attr("value"))
    return relation(c, op.word_attr("relation"), c.real(op.inputs[0]), number)


def where(c: Context, op: Op) -> str:
    """By truth values."""
    return c.g.op("Where", truth(c, c.beside(op, 0)), c.beside(op, 1), c.beside(op, 2))


def masked(c: Context, op: Op) -> str:
    """A number in some places."""
    number = c.g.f32(op.float_attr("value"))
    return c.g.op("Where", truth(c, c.beside(op, 0)), number, c.beside(op, 1))


def within(c: Context, op: Op) -> str:
    """NaN outside of a range."""
    x = c.real(op.inputs[0])
    low = c.g.op("GreaterOrEqual", x, c.g.f32(op.float_attr("low")))
    high = c.g.op("LessOrEqual", x, c.g.f32(op.float_attr("high")))
    return c.g.op("Where", c.g.op("And", low, high), x, c.g.f32(float("nan")))


def scale(c: Context, op: Op) -> str:
    """Times a number."""
    return c.g.op("Mul", c.real(op.inputs[0]), c.g.f32(op.float_attr("factor")))


def shift(c: Context, op: Op) -> str:
    """Plus a number."""
    return c.g.op("Add", c.real(op.inputs[0]), c.g.f32(op.float_attr("by")))


def clamp_min(c: Context, op: Op) -> str:
    """Clip with one end."""
    return c.g.op("Clip", c.real(op.inputs[0]), c.g.f32(op.float_attr("low")))


def clamp_max(c: Context, op: Op) -> str:
    """Clip with the other end."""
    return c.g.op("Clip", c.real(op.inputs[0]), "", c.g.f32(op.float_attr("high")))


def add_bias(c: Context, op: Op) -> str:
    """One number for each channel."""
    x, b = (c.real(v) for v in op.inputs)
    return c.g.op("Add", x, c.channels(b, len(op.result.type.shape)))


def power(c: Context, op: Op) -> str:
    """Roots and squares by nodes that round once."""
    x, exponent = c.real(op.inputs[0]), op.float_attr("exponent")
    if exponent == 2:
        return c.g.op("Mul", x, x)
    if abs(exponent) == 0.5:
        root = c.g.op("Sqrt", x)
        return root if exponent > 0 else c.g.op("Reciprocal", root)
    return c.g.op("Pow", x, c.g.f32(exponent))


def precise(c: Context, op: Op) -> str:
    """e^x - 1 and log(1 + x) in f64, where what 1 takes away is not missed."""
    x = c.g.op("Cast", c.real(op.inputs[0]), to=ElementType.DOUBLE.value)
    one = c.g.constant(np.asarray(1.0))
    if op.kind == "expm1":
        made = c.g.op("Sub", c.g.op("Exp", x), one)
    else:
        made = c.g.op("Log", c.g.op("Add", x, one))
    return c.g.op("Cast", made, to=ElementType.FLOAT.value)


def reduce(c: Context, op: Op) -> str:
    """Over some dimensions."""
    axes, keep = c.g.ints(*op.ints_attr("dims")), int(op.bool_attr("keepdim"))
    if not op.ints_attr("dims"):
        return c.real(op.inputs[0])
    return c.g.op(REDUCE[op.kind], c.real(op.inputs[0]), axes, keepdims=keep)


def sum_channels(c: Context, op: Op) -> str:
    """Over all but channels."""
    axes = c.g.ints(0, *range(2, len(op.inputs[0].type.shape)))
    return c.g.op("ReduceSum", c.real(op.inputs[0]), axes, keepdims=0)


def broadcast(c: Context, op: Op) -> str:
    """Expand, behind what gives the operand the dimensions that it lacks."""
    x, made, dims = op.inputs[0], op.result, op.ints_attr("dims")
    name = c.real(x)
    if len(x.type.shape) < len(made.type.shape):
        name = c.g.op("Unsqueeze", name, c.g.ints(*sorted(dims)))
    return c.g.op("Expand", name, c.sizes(made))


POINTWISE: dict[str, Lower] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(REDUCE, reduce),
    **dict.fromkeys(("expm1", "log1p"), precise),
    "compare": compare,
    "compare_to": compare_to,
    "where": where,
    "masked": masked,
    "within": within,
    "scale": scale,
    "shift": shift,
    "clamp_min": clamp_min,
    "clamp_max": clamp_max,
    "add_bias": add_bias,
    "power": power,
    "sum_channels": sum_channels,
    "broadcast": broadcast,
}
