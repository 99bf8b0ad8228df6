"""Formats as integers: levels that are integer multiples of one power of two multiply exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.formats import Format

INT32_END = 1 << 31


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


def fits_int32(a: Integers, b: Integers, length: int) -> bool:
    """Whether every sum of ``length`` products is within int32."""
    return length * a.magnitude * b.magnitude < INT32_END
