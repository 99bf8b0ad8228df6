"""Arithmetic of integers in ONNX; operands repeat along dimensions there too."""

from __future__ import annotations

from ...compiler.ir import Op
from ...compiler.ir.ops.whole import LARGEST_WHOLE
from .elements import PLAIN, ElementType
from .frame import Context, Lower
from .pointwise import relation, truth

FUNCTIONS = {"add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min"}


def _alike(c: Context, op: Op, i: int, element: ElementType) -> str:
    """An operand in a type of integers; operands may have two."""
    name = c.beside(op, i)
    same = PLAIN[op.inputs[i].type.format] is element
    return name if same else c.g.op("Cast", name, to=element.value)


def _made(c: Context, op: Op, name: str) -> str:
    """In the type of the result."""
    element = PLAIN[op.result.type.format]
    return name if element is ElementType.INT64 else c.g.op("Cast", name, to=element.value)


def whole(c: Context, op: Op) -> str:
    """In 64 bits."""
    a, b = (_alike(c, op, i, ElementType.INT64) for i in range(2))
    return _made(c, op, c.g.op(FUNCTIONS[op.word_attr("function")], a, b))


def whole_divided(c: Context, op: Op) -> str:
    """Mod has the sign of the divisor; what it leaves is divided without a rest."""
    a, by = _alike(c, op, 0, ElementType.INT64), c.g.int64(op.int_attr("by"))
    rest = c.g.op("Mod", a, by)
    if op.bool_attr("rest"):
        return _made(c, op, rest)
    return _made(c, op, c.g.op("Div", c.g.op("Sub", a, rest), by))


def whole_compare(c: Context, op: Op) -> str:
    """1 and 0."""
    pair = (_alike(c, op, i, ElementType.INT64) for i in range(2))
    return relation(c, op.word_attr("relation"), *pair)


def whole_where(c: Context, op: Op) -> str:
    """By truth values."""
    a, b = (_alike(c, op, i, ElementType.INT64) for i in (1, 2))
    return _made(c, op, c.g.op("Where", truth(c, c.beside(op, 0)), a, b))


def to_whole(c: Context, op: Op) -> str:
    """Cut off behind the point; NaN is 0."""
    x = c.real(op.inputs[0])
    known = c.g.op("Where", c.g.op("IsNaN", x), c.g.f32(0.0), x)
    ends = (c.g.f32(float(n)) for n in (-LARGEST_WHOLE, LARGEST_WHOLE))
    made = c.g.op("Cast", c.g.op("Clip", known, *ends), to=ElementType.INT64.value)
    return _made(c, op, made)


def to_number(c: Context, op: Op) -> str:
    """The nearest number."""
    return c.g.op("Cast", c.real(op.inputs[0]), to=ElementType.FLOAT.value)


WHOLE: dict[str, Lower] = {
    "whole": whole,
    "whole_divided": whole_divided,
    "whole_compare": whole_compare,
    "whole_where": whole_where,
    "to_whole": to_whole,
    "to_number": to_number,
}
