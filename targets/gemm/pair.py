"""Two formats that are multiplied."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.formats import BF16, Format
from ..numbers.integers import Integers, integers


@dataclass(frozen=True, slots=True)
class FormatPair:
    """Two formats to multiply, ``a`` broadcast, in sums of at most ``length`` products."""

    a: Format
    b: Format
    length: int

    @property
    def integers(self) -> tuple[Integers, Integers] | None:
        """Both as integers; None where one is none."""
        a, b = integers(self.a), integers(self.b)
        return (a, b) if a and b else None

    @property
    def as_bf16(self) -> bool:
        """Whether bf16 holds the numbers of both, and one is no integer."""
        formats = (self.a, self.b)
        held = all(f is BF16 or (f.is_coded and f.bits <= 8) for f in formats)
        return held and self.integers is None
