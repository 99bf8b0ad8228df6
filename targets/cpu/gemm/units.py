"""The units that multiply: which pairs of formats each takes on which CPU, and how fast it is.

Formats whose levels are integer multiples of one power of two multiply in integers, exactly; all
others are decoded to f32 or bf16. A sum that int32 cannot hold (its bound follows from length and
formats) is taken in two parts of int32, a longer one in int64. The bound is that of each partial
sum: what a unit adds up on the way, ``a + zero`` from minus ``zero`` times the weights on, or
planes of bytes, may be more than ``a``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ....compiler.formats import Format
from ...gemm.pair import FormatPair
from ...numbers.integers import BYTE, Integers, most_products
from ...plan.kernel import Unit
from ..info import CpuInfo

INT16_END = 1 << 15
# Sums in two parts: each product may be a pair of its own, whose upper half is up to 2^15.
HALF_BITS, MOST_SPLIT, FLOAT64_END = 16, (1 << 16) - 1, 1 << 53
SHORTEST_RUN = 4  # below, sums in int16 save little


@dataclass(frozen=True, slots=True)
class Dot:
    """One multiply-accumulate: ``acc += sum over block of a * b`` on every lane.

    ``a`` is broadcast over the lanes and stored as ``a + zero``; ``b`` comes from the panel. Where
    ``run`` is not 0, so many are added in int16, two sums a lane, before they join ``acc``. With
    ``split`` a sum is two numbers of int32 until it is put together as ``acc``.
    """

    unit: Unit
    a: str
    b: str
    acc: str
    block: int = 1
    zero: int = 0
    run: int = 0
    split: bool = False

    @property
    def wide(self) -> bool:
        """Whether the sum is kept in int64."""
        return self.acc == "int64"


def largest(dot: Dot, a: Integers) -> int:
    """The largest number that is multiplied in a sum of ``dot``, its planes put together."""
    if dot.unit is Unit.INT8_TILE and a.byte is None:
        return a.high_byte * BYTE
    return max(a.magnitude, dot.zero)


def most_in_planes(a: Integers, b: Integers) -> int:
    """The products that int32 holds the sum of in each plane of bytes of ``a``."""
    return most_products(a.magnitude if a.byte else max(BYTE // 2, a.high_byte), b.magnitude)


def fits(dot: Dot, a: Integers, b: Integers, length: int) -> bool:
    """Whether what ``dot`` adds up in a sum of ``length`` products fits."""
    if dot.wide:
        return True
    if dot.split:
        return length <= MOST_SPLIT
    return length <= most_products(largest(dot, a), b.magnitude)


FLOAT = Dot(Unit.F32, "float32", "float32", "float32")
INT32 = Dot(Unit.INT32, "int32", "int32", "int32")
INT64 = Dot(Unit.INT32, "int32", "int32", "int64")
# bf16 by its bits; every format of at most 8 bits has numbers of at most 8 significant bits.
BF16_TILE = Dot(Unit.BF16_TILE, "uint16", "uint16", "float32", block=2)
BF16_DOT = Dot(Unit.BF16_DOT, "uint16", "uint16", "float32", block=2)
INT16 = Dot(Unit.INT16_DOT, "int16", "int16", "int32", block=2)
INT16_SPLIT = replace(INT16, acc="float64", split=True)


def short(pair: FormatPair, dot: Dot) -> Dot | None:
    """``dot`` where both are integers whose sums it holds."""
    both = pair.integers
    return dot if both and fits(dot, *both, pair.length) else None


@dataclass(frozen=True, slots=True)
class UnitRule:
    """A unit: ``dot`` says how it takes a pair on a CPU, or None where it does not.

    ``peak`` counts the multiply-adds that one core starts a cycle, where the unit is there: between
    two that take a pair the larger one wins.
    """

    name: str
    peak: int
    dot: Callable[[FormatPair, CpuInfo], Dot | None]


def _int8_tile(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    # Tiles unpack codes of a byte at most; only ``a`` may need two bytes a number: two planes.
    if not cpu.amx or pair.integers is None or any(f.bits > 8 for f in (pair.a, pair.b)):
        return None
    first, second = (numbers.byte for numbers in pair.integers)
    if second is None:
        return None
    return short(pair, Dot(Unit.INT8_TILE, first or "int8", second, "int32", block=4))


def _bf16_tile(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return BF16_TILE if cpu.amx and pair.as_bf16 else None


def _int8_dot(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    if not cpu.pairs or pair.integers is None:
        return None
    a, b = pair.integers
    zero = max(0, -_stored_low(pair.a, a))
    if a.high + zero >= BYTE or b.byte != "int8":
        return None
    dot = Dot(Unit.INT8_DOT, "uint8", "int8", "int32", block=4, zero=zero)
    if not cpu.vnni:
        # vpmaddubsw adds two products in int16.
        dot = replace(dot, run=(INT16_END - 1) // (2 * (a.high + zero) * b.magnitude))
        if dot.run < SHORTEST_RUN:
            return None
    return short(pair, dot)


def _stored_low(f: Format, numbers: Integers) -> int:
    # Two's complement plus 2^(bits - 1) is one exclusive or; the unused lowest code makes room.
    complement = f.is_integer and f.signed and not f.midrise
    return -(1 << (f.bits - 1)) if complement else numbers.low


def _int16_dot(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return short(pair, INT16) if cpu.pairs else None


def _int16_split(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return short(pair, INT16_SPLIT) if cpu.pairs else None


def _bf16_dot(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return BF16_DOT if cpu.bf16 and pair.as_bf16 else None


def _int32(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return short(pair, INT32)


def _int64(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return INT64 if pair.integers and not short(pair, INT32) else None


def _f32(pair: FormatPair, cpu: CpuInfo) -> Dot | None:
    return None if pair.integers else FLOAT


ON_INT8_TILE = UnitRule("int8 tile", 1024, _int8_tile)
ON_BF16_TILE = UnitRule("bf16 tile", 512, _bf16_tile)
ON_INT8_DOT = UnitRule("int8 dot", 64, _int8_dot)
ON_INT16_DOT = UnitRule("int16 dot", 32, _int16_dot)
ON_BF16_DOT = UnitRule("bf16 dot", 32, _bf16_dot)
ON_INT16_SPLIT = UnitRule("int16 dot in two parts", 16, _int16_split)
IN_F32 = UnitRule("f32", 16, _f32)
IN_INT32 = UnitRule("int32", 8, _int32)
IN_INT64 = UnitRule("int64", 4, _int64)
EVERY_DOT = (
    ON_INT8_DOT,
    ON_INT16_DOT,
    ON_BF16_DOT,
    ON_INT16_SPLIT,
    IN_F32,
    IN_INT32,
    IN_INT64,
)
