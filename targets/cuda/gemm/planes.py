"""Formats as planes: what tensor cores multiply; without TVM."""

from __future__ import annotations

from dataclasses import dataclass

from ....compiler.formats import Format
from ...numbers.integers import BYTE, integers
from ...plan.kernel import Unit

FLOATS = {Unit.BF16_MMA: "bf16", Unit.F32: "f32"}


@dataclass(frozen=True, slots=True)
class Plane:
    """Numbers up to ``largest`` in magnitude; an operand is the sum of ``weight`` times each."""

    kind: str
    weight: int
    largest: int


def planes_of(f: Format, unit: Unit) -> tuple[Plane, ...]:
    """The planes of a format, the lowest first."""
    if unit in FLOATS:
        return (Plane(FLOATS[unit], 1, 1),)
    numbers = integers(f)
    assert numbers is not None, f"{f} has no integers"
    if unit is Unit.INT4_MMA:
        return (Plane("s4" if numbers.low < 0 else "u4", 1, numbers.magnitude),)
    if numbers.byte:
        return (Plane("s8" if numbers.byte == "int8" else "u8", 1, numbers.magnitude),)
    return (Plane("u8", 1, BYTE - 1), Plane("s8", BYTE, BYTE // 2))


def fits_nibble(f: Format) -> bool:
    """Whether 4 bits hold the numbers of a format, with a sign or without one."""
    numbers = integers(f)
    return numbers is not None and (
        (numbers.low >= -8 and numbers.high < 8) or (numbers.low >= 0 and numbers.high < 16)
    )


def codes_are_nibbles(f: Format) -> bool:
    """Whether codes of 4 bits in memory are the numbers, but for the lowest of those with a sign.

    It is none of the format, and stands for the one above it.
    """
    whole = f.bits == 4 or not f.signed
    return f.storage_bits == 4 and f.is_integer and not f.midrise and f.ends is None and whole
