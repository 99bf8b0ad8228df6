"""Formats as planes: what tensor cores multiply; without TVM."""

from __future__ import annotations

from dataclasses import dataclass

from ....compiler.formats import Format
from ...numbers.integers import BYTE, integers
from ...plan.kernel import Unit


@dataclass(frozen=True, slots=True)
class Plane:
    """Numbers up to ``largest`` in magnitude; an operand is the sum of ``weight`` times each."""

    kind: str
    weight: int
    largest: int


def planes_of(f: Format, unit: Unit) -> tuple[Plane, ...]:
    """The planes of a format, the lowest first."""
    if unit is not Unit.INT8_MMA:
        return (Plane("bf16" if unit is Unit.BF16_MMA else "f32", 1, 1),)
    numbers = integers(f)
    assert numbers is not None, f"{f} has no integers"
    if numbers.byte:
        return (Plane("s8" if numbers.byte == "int8" else "u8", 1, numbers.magnitude),)
    return (Plane("u8", 1, BYTE - 1), Plane("s8", BYTE, BYTE // 2))
