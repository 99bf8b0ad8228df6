"""Formats as integers: levels that are integer multiples of one power of two multiply exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.formats import Format

INT32_END = 1 << 31
BYTE = 1 << 8


@dataclass(frozen=True, slots=True)
class Integers:
    """Levels of a format as integers ``low .. high`` in units of ``unit``, a power of two."""

    low: int
    high: int
    unit: float

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(self.high, -self.low)

    @property
    def byte(self) -> str | None:
        """The type of byte that holds the numbers; two signed ones do where it is None."""
        if self.low >= -BYTE // 2 and self.high < BYTE // 2:
            return "int8"
        return "uint8" if self.low >= 0 and self.high < BYTE else None

    @property
    def high_byte(self) -> int:
        """The largest second byte: numbers are ``high * 256 + low`` of bytes with a sign."""
        return (self.magnitude + BYTE // 2) // BYTE


def integers(f: Format) -> Integers | None:
    """The levels of ``f`` as integers that fit int16; None where they do not."""
    if not f.is_coded or not (f.is_integer or f.is_log):
        return None
    unit = 1.0 if f.is_integer else f.smallest
    low, high = (int(v / unit) for v in (f.levels()[0], f.levels()[-1]))
    return Integers(low, high, unit) if max(high, -low) < 1 << 15 else None


def unit_of(f: Format) -> float:
    """What one step of the decoded number stands for: 1 for floats."""
    numbers = integers(f)
    return numbers.unit if numbers else 1.0


def most_products(a: int, b: int) -> int:
    """How many products of numbers up to ``a`` and up to ``b`` int32 holds the sum of."""
    return (INT32_END - 1) // (a * b)
