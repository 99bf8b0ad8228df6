"""What a GEMM multiplies: formats as integers with a unit, and the unit that takes a pair of them.

Formats whose levels are integer multiples of one power of two multiply in integers, exactly; all
others are decoded to f32. A sum that int32 cannot hold (its bound follows from length and formats)
is taken in int64.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....compiler.formats import BF16, Format
from ...plan.kernel import Unit
from ..info import CpuInfo

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


@dataclass(frozen=True, slots=True)
class Dot:
    """One multiply-accumulate: ``acc += sum over block of a * b`` on every lane.

    ``a`` is broadcast over the lanes and stored as ``a + zero``; ``b`` comes from the panel.
    """

    unit: Unit
    a: str
    b: str
    acc: str
    block: int = 1
    zero: int = 0

    @property
    def wide(self) -> bool:
        """Whether the sum is kept in int64."""
        return self.acc == "int64"


FLOAT = Dot(Unit.F32, "float32", "float32", "float32")
INT32 = Dot(Unit.INT32, "int32", "int32", "int32")
INT64 = Dot(Unit.INT32, "int32", "int32", "int64")
# bf16 by its bits; every format of at most 8 bits has numbers of at most 8 significant bits.
BF16_TILE = Dot(Unit.BF16_TILE, "uint16", "uint16", "float32", block=2)
BF16_DOT = Dot(Unit.BF16_DOT, "uint16", "uint16", "float32", block=2)
INT16 = Dot(Unit.INT16_DOT, "int16", "int16", "int32", block=2)


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


def choose_tile_dot(a: Format, b: Format, length: int, cpu: CpuInfo) -> Dot | None:
    """AMX, where it takes both formats exactly: only ``a`` may need two bytes a number.

    Tiles unpack codes of a byte at most. Sums over ``length`` products stay within int32.
    """
    if not cpu.amx or any(f.is_coded and f.bits > 8 for f in (a, b)):
        return None
    x, y = integers(a), integers(b)
    if x is None or y is None:
        return BF16_TILE if _fit_bf16(a, b) else None
    second = _byte(y)
    if second is None or not fits_int32(x, y, length):
        return None
    # What does not fit a byte becomes two signed ones.
    return Dot(Unit.INT8_TILE, _byte(x) or "int8", second, "int32", block=4)


def _byte(numbers: Integers) -> str | None:
    """The type of byte that holds the numbers."""
    if numbers.low >= -128 and numbers.high < 128:
        return "int8"
    return "uint8" if numbers.low >= 0 and numbers.high < 256 else None


def _fit_bf16(*formats: Format) -> bool:
    return all(f is BF16 or (f.is_coded and f.bits <= 8) for f in formats)


def _float_dot(a: Format, b: Format, cpu: CpuInfo) -> Dot:
    return BF16_DOT if cpu.bf16 and _fit_bf16(a, b) else FLOAT


def choose_dot(a: Format, b: Format, length: int, cpu: CpuInfo) -> Dot:
    """The fastest exact unit for sums of ``length`` products of ``a`` (broadcast) and ``b``."""
    x, y = integers(a), integers(b)
    if x is None or y is None:
        return _float_dot(a, b, cpu)
    if not fits_int32(x, y, length):
        return INT64
    if not cpu.vnni:
        return INT32
    zero = max(0, -_stored_low(a, x))
    if x.high + zero < 256 and y.low >= -128 and y.high < 128:
        return Dot(Unit.INT8_DOT, "uint8", "int8", "int32", block=4, zero=zero)
    return INT16


def choose_lane_dot(a: Format, b: Format, length: int, cpu: CpuInfo) -> Dot:
    """The unit where neither operand is broadcast and sums have one product a tap."""
    x, y = integers(a), integers(b)
    if x is None or y is None:
        return FLOAT
    if not fits_int32(x, y, length):
        return INT64
    return INT16 if cpu.vnni else INT32


def choose_pair_dot(a: Format, b: Format, row: int, cpu: CpuInfo) -> Dot:
    """The unit for weight gradients; int32 sums of rows of ``row`` pixels are added in int64."""
    x, y = integers(a), integers(b)
    if x is None or y is None:
        return _float_dot(a, b, cpu)
    if not fits_int32(x, y, row):
        return INT64
    return INT16 if cpu.vnni else INT32


def _stored_low(f: Format, numbers: Integers) -> int:
    # Two's complement plus 2^(bits - 1) is one exclusive or; the unused lowest code makes room.
    complement = f.is_integer and f.signed and not f.midrise
    return -(1 << (f.bits - 1)) if complement else numbers.low
