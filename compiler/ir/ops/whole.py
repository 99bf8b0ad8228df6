"""Arithmetic of integers, exact in 64 bits; operands repeat along dimensions as in NumPy."""

from __future__ import annotations

from math import prod

from ...types import Shape
from ..program import Op
from .definition import Extents, OpDef
from .signature import define

BOTH = "(a: int[*A], b: int[*B])"
RELATION = "relation: lt|le|eq|ne|ge|gt"
# The largest integer that a number becomes; its f32 is an integer of 64 bits.
LARGEST_WHOLE = 1 << 62


def _repeats(op: Op, at: Extents) -> str:
    made = at["*S"]
    for shape in (at["*A"], at["*B"]):
        if not _fits(shape, made):
            return f"{shape} does not repeat to {made}"
    return ""


def _fits(shape: Shape, made: Shape) -> bool:
    wide = (1,) * (len(made) - len(shape)) + shape
    return len(wide) == len(made) and all(a in (1, b) for a, b in zip(wide, made, strict=True))


def _divided(op: Op, at: Extents) -> str:
    return "the divisor is 0" if op.int_attr("by") == 0 else ""


def _table(op: Op, at: Extents) -> str:
    held, numbers = prod(at["*S"]), len(op.ints_attr("numbers"))
    return "" if held == numbers else f"{numbers} numbers do not fill {at['*S']}"


WHOLE: tuple[OpDef, ...] = (
    define(
        f"whole{BOTH} {{function: add|sub|mul|maximum|minimum}} -> n: int[*S]",
        "a function of two integers",
        check=_repeats,
    ),
    define(
        "whole_divided(a: int[*S]) {by: int, rest: flag} -> n: int[*S]",
        "a / by, rounded down, or what rests then, with the sign of by",
        check=_divided,
    ),
    define(
        f"whole_compare{BOTH} {{{RELATION}}} -> m: f32[*S]",
        "1 where a relation b, else 0",
        check=_repeats,
    ),
    define(
        "whole_where(c: number[*S], a: int[*A], b: int[*B]) -> n: int[*S]",
        "a where c != 0, else b",
        check=_repeats,
    ),
    define(
        "whole_table() {numbers: ints} -> n: int[*S]", "these integers, row by row", check=_table
    ),
    define(
        "to_whole(x: number[*S]) -> n: int[*S]",
        "without what stands behind the point; 0 of NaN; at most 2^62 and at least -2^62",
    ),
    define("to_number(n: int[*S]) -> x: f32[*S]", "the nearest number"),
)
