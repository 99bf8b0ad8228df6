"""What tiles multiply: which formats become bytes or bf16, and how codes are decoded to them.

An integer beyond a byte is two signed bytes, ``high * 256 + low``: a radix-4 FP4 level is at most
4096. Sums of the two planes are taken apart, exactly, and put together once. Numbers of at most
eight significant bits are bf16 exactly; their products are exact in f32.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.formats import Format
from ...numbers.integers import integers
from ...tir.expr import Expr
from ..gemm.decode import LOOKUPS, Halves, Numbers, from_codes, lookup
from ..gemm.vectors import bits, cast, splat

PLANE_BITS = 8


@dataclass(frozen=True, slots=True)
class Bytes(Numbers):
    """Bytes in scratch: the numbers, or of numbers beyond a byte one plane (0 low, 1 high)."""

    plane: int | None = None

    def of_codes(self, f: Format, codes: Expr, lanes: int) -> Expr:
        """See ``Numbers``."""
        if f.bits <= 4 and lanes in LOOKUPS:
            return bits(lookup(self._levels(f), codes, lanes), self.dtype, lanes)
        if self.dtype == "uint8" and not f.midrise:
            return codes
        wide = from_codes(f, cast(codes, "uint16", lanes), "int16", lanes)
        return cast(self._part(wide, "int16", lanes), self.dtype, lanes)

    def of_number(self, number: Expr) -> Expr:
        """See ``Numbers``."""
        return cast(self._part(number, "int32", 1), self.dtype)

    def _levels(self, f: Format) -> list[int]:
        """The byte of each code."""
        numbers = integers(f)
        assert numbers is not None
        levels = [int(f.decode(c) / numbers.unit) for c in range(1 << f.bits)]
        return [level if self.plane is None else bytes_of(level)[self.plane] for level in levels]

    def _part(self, number: Expr, dtype: str, lanes: int) -> Expr:
        if self.plane is None:
            return number
        shift, half = (splat(n, dtype, lanes) for n in (PLANE_BITS, 1 << (PLANE_BITS - 1)))
        high = tir.shift_right(number + half, shift)
        return high if self.plane else number - tir.shift_left(high, shift)


def bytes_of(number: int) -> tuple[int, int]:
    """Low and high signed byte of an integer within int16: ``high * 256 + low``."""
    high = (number + (1 << (PLANE_BITS - 1))) >> PLANE_BITS
    return number - (high << PLANE_BITS), high


def joined(low: Expr, high: Expr, dtype: str, lanes: int) -> Expr:
    """Whole sums from those of both planes."""
    return low + tir.shift_left(high, splat(PLANE_BITS, dtype, lanes))


def planes(f: Format, unit_type: str) -> tuple[Numbers, ...]:
    """The scratch forms of a format, low plane first; ``unit_type`` is that of its first plane."""
    if unit_type == "uint16":
        return (Halves(),)
    numbers = integers(f)
    assert numbers is not None
    if numbers.low >= -128 and numbers.high < (256 if unit_type == "uint8" else 128):
        return (Bytes(unit_type),)
    return Bytes(unit_type, plane=0), Bytes(unit_type, plane=1)
