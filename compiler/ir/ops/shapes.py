"""Shapes against the patterns of a signature: what its symbols stand for, or what does not fit."""

from __future__ import annotations

from ...types import Shape
from ..program import Op, Value
from .definition import Extents, OpDef, Operand, Pattern


class ShapeMismatch(Exception):
    """Shapes of an op that do not fit; the verifier adds the place."""


def bind(definition: OpDef, op: Op) -> Extents:
    """What the symbols stand for in ``op``; ShapeMismatch where its values fit no patterns."""
    operands = [(definition.operand(i), v) for i, v in enumerate(op.inputs)]
    results = list(zip(definition.results, op.results, strict=True))
    known: list[Extents] = [{}]  # by the patterns that values may have, the first ones ahead
    for i, (operand, value) in enumerate([*operands, *results]):
        fits = (_fit(p, value.type.shape, k) for k in known for p in operand.patterns)
        after = [extents for extents in fits if extents is not None]
        if not after:
            raise ShapeMismatch(_sentence(op, operand, value, known[0], result=i >= len(operands)))
        known = after
    return known[0]


def _fit(pattern: Pattern, shape: Shape, given: Extents) -> Extents | None:
    """``given`` with the symbols of a pattern that a shape fits; None where it does not."""
    if pattern == ("?",):
        return given
    stars = [i for i, symbol in enumerate(pattern) if symbol.startswith("*")]
    fixed = len(pattern) - len(stars)
    if len(shape) < fixed or (not stars and len(shape) != fixed):
        return None
    found = dict(given)
    rest = list(shape)
    for i, symbol in enumerate(pattern):
        size = len(shape) - fixed if i in stars else 1
        part, rest = tuple(rest[:size]), rest[size:]
        wanted = (int(symbol),) if symbol.isdecimal() else found.setdefault(symbol, part)
        if wanted != part:
            return None
    return found


def _sentence(op: Op, operand: Operand, value: Value, given: Extents, *, result: bool) -> str:
    if result and (made := _made(operand.patterns[0], given)) is not None:
        return f"{value.name} is {value.type}, but {op.kind} makes shape {made}"
    shapes = " or ".join(f"[{' '.join(p)}]" for p in operand.patterns)
    used = {s for p in operand.patterns for s in p if s in given}
    sizes = ", ".join(f"{s.lstrip('*')} = {_size(given[s])}" for s in sorted(used))
    where = f" with {sizes}" if sizes else ""
    return f"{value.name} is {value.type}, but {operand.name} of {op.kind} is {shapes}{where}"


def _size(extent: Shape) -> str:
    return "x".join(map(str, extent)) or "nothing"


def _made(pattern: Pattern, given: Extents) -> Shape | None:
    """The shape that a pattern stands for; None where a symbol is not known yet."""
    parts = [(int(s),) if s.isdecimal() else given.get(s) for s in pattern]
    return None if None in parts else tuple(n for part in parts if part is not None for n in part)
