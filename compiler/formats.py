"""Number formats: each is defined by the list of values that its codes stand for.

Reference, kernels, packing, reports and export derive from these; no level is typed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .levels import dynamic, linear


@dataclass(frozen=True, slots=True)
class Format:
    """A storage format of ``bits`` bits.

    Floats (``exp > 0``): ``(-1)^s * radix^(e - bias) * (1 + m / 2^man) * shift``; with
    ``subnormals`` the exponent code 0 means ``m / 2^man * radix^(1 - bias)``, without them it is 0
    for ``m == 0`` and an ordinary exponent otherwise. An exponent code above ``top`` (0: no limit)
    counts as ``top``. ``specials`` lists the magnitude codes (without sign) that stand for infinity
    or NaN and are no level; a cast saturates to the largest level instead. Unsigned ones are
    powers of two, and code 0 is the least of them.

    Integers (``exp == 0``): two's complement without its most negative code when ``signed``, plain
    binary otherwise; ``midrise`` integers have no zero: code ``c`` is ``2c - (2^bits - 1)``. With
    ``ends`` codes of smaller and larger numbers than these two count as they.

    Lists: code ``c`` is the ``c``-th of ``listed``, which ascend. States are stored in them; they
    take no part in products.

    A coded tensor's real values are ``decode(code) * scale``.
    """

    name: str
    bits: int
    exp: int = 0
    man: int = 0
    radix: int = 2
    bias: int = 0
    shift: float = 1.0
    subnormals: bool = False
    signed: bool = True
    midrise: bool = False
    top: int = 0
    specials: tuple[int, ...] = ()
    ends: tuple[int, int] | None = None
    listed: tuple[float, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def storage_bits(self) -> int:
        """Bits that one code takes in memory: the next power of two."""
        return 1 << (self.bits - 1).bit_length()

    @property
    def is_integer(self) -> bool:
        """Whether the levels are consecutive (or, midrise, odd) integers."""
        return self.exp == 0 and not self.listed

    @property
    def is_element(self) -> bool:
        """Whether codes may be operands of a product: not what scales and states are stored in."""
        return self.is_coded and not self.is_exponent and not self.listed

    @property
    def is_exponent(self) -> bool:
        """Whether the levels are positive powers of two: what scales are stored in."""
        return self.exp > 0 and not self.signed

    @property
    def is_carrier(self) -> bool:
        """Whether plain floats between GEMMs may be kept in this format: f32, bf16, f16."""
        return self in (F32, BF16, F16)

    @property
    def is_index(self) -> bool:
        """Whether the numbers count or point (labels, steps) and take no part in arithmetic."""
        return self in (I32, I64)

    @property
    def is_coded(self) -> bool:
        """Whether the levels can be listed: at most 8 bits, or integers of at most 16."""
        return self.bits <= (8 if self.exp else 16)

    @property
    def is_log(self) -> bool:
        """Whether the levels are 0 and signed powers of ``radix`` times ``shift``."""
        return self.exp > 0 and self.man == 0 and not self.subnormals and self.signed

    @property
    def top_exponent(self) -> int:
        """The exponent code of the largest level of a logarithmic format."""
        return self.top or (1 << self.exp) - 1

    def decode(self, code: int) -> float:
        """The number that ``code`` (0 .. 2^bits - 1) stands for; infinity or NaN for a special."""
        if self.listed:
            return self.listed[code]
        if self.exp == 0:
            return float(self._decode_integer(code))
        if self.is_exponent:
            return float("nan") if code in self.specials else 2.0 ** (code - self.bias)
        sign = -1.0 if code >> (self.bits - 1) else 1.0
        magnitude = code & ((1 << (self.bits - 1)) - 1)
        e, m = magnitude >> self.man, magnitude & ((1 << self.man) - 1)
        e = min(e, self.top) if self.top else e
        if magnitude in self.specials:
            infinite = m == 0 and e == (1 << self.exp) - 1 and len(self.specials) > 1
            return sign * float("inf") if infinite else float("nan")
        if e == 0 and self.subnormals:
            return sign * float(self.radix) ** (1 - self.bias) * m / (1 << self.man) * self.shift
        if magnitude == 0:
            return sign * 0.0
        return sign * float(self.radix) ** (e - self.bias) * (1 + m / (1 << self.man)) * self.shift

    def _decode_integer(self, code: int) -> int:
        if self.midrise:
            return 2 * code - ((1 << self.bits) - 1)
        if not self.signed:
            return code
        value = code - (1 << self.bits) if code >> (self.bits - 1) else code
        half = 1 << (self.bits - 1)
        low, high = self.ends or (1 - half, half - 1)
        return min(max(value, low), high)

    def levels(self) -> tuple[float, ...]:
        """All distinct finite values, ascending: the definition of a coded format."""
        return _levels(self)

    @property
    def max(self) -> float:
        """The largest level."""
        return self.levels()[-1]

    @property
    def smallest(self) -> float:
        """The smallest positive level."""
        return next(v for v in self.levels() if v > 0)


@cache
def _levels(f: Format) -> tuple[float, ...]:
    if not f.is_coded:
        raise ValueError(f"{f} has too many levels to list")
    values = {f.decode(c) + 0.0 for c in range(1 << f.bits)}
    return tuple(sorted(v for v in values if abs(v) != float("inf") and v == v))


F32 = Format("f32", 32, exp=8, man=23, bias=127, subnormals=True)
BF16 = Format("bf16", 16, exp=8, man=7, bias=127, subnormals=True)
F16 = Format("f16", 16, exp=5, man=10, bias=15, subnormals=True)
I64 = Format("i64", 64)
I32 = Format("i32", 32)
INTS = {b: Format(f"int{b}", b) for b in range(2, 9)}
UINTS = {b: Format(f"uint{b}", b, signed=False) for b in range(1, 9)}
INT4, INT8, UINT2, UINT4, UINT8 = INTS[4], INTS[8], UINTS[2], UINTS[4], UINTS[8]
# The mantissas of dynamic fixed point (Das et al. 2018), and affine gradients of 9 to 16 bits.
INT16, UINT16 = Format("int16", 16), Format("uint16", 16, signed=False)
# Codes of 8 bits with a flag for the unit reach 127 * 128: the bound keeps long sums in int32.
INT15 = Format("int15", 15)
# 2^bits levels without a zero, at 4 bits -15, -13 .. 15: SAWB's other grids, DoReFa's weights.
MIDRISE = {b: Format(f"int{b}.midrise", b, midrise=True) for b in range(1, 9)}
INT4_MIDRISE = MIDRISE[4]
# What the authors of LUQ compute with (Chmiel et al., ICLR 2023): 17 integers of weights, 24 of
# activations that may be negative; 8 bits in memory.
INT5_17, INT5_24 = (
    Format(f"int5.{high - low + 1}", 5, ends=(low, high)) for low, high in ((-8, 8), (-8, 15))
)
# 0, +-4^-3 .. +-4^3, and the same levels times 2 (Sun et al. 2020, two-phase rounding).
FP4_EVEN = Format("fp4.even", 4, exp=3, radix=4, bias=4)
FP4_ODD = Format("fp4.odd", 4, exp=3, radix=4, bias=4, shift=2.0)
# The odd levels below the even ones instead of above: 4^k / 2.
FP4_ODD_LOW = Format("fp4.odd_low", 4, exp=3, radix=4, bias=4, shift=0.5)
# Other radices, zero and seven levels up to the same 64, so that GradScale aims alike for all:
# 1, 2 .. 64; 8^-4 .. 8^2; 64 16^-6 .. 64, with odd phases a root of the radix above and below.
FP4_R2 = Format("fp4.r2", 4, exp=3, radix=2, bias=1)
FP4_R8 = Format("fp4.r8", 4, exp=3, radix=8, bias=5)
FP4_R16_EVEN = Format("fp4.r16.even", 4, exp=3, radix=16, bias=6, shift=4.0)
FP4_R16_ODD = Format("fp4.r16.odd", 4, exp=3, radix=16, bias=6, shift=16.0)
FP4_R16_ODD_LOW = Format("fp4.r16.odd_low", 4, exp=3, radix=16, bias=6, shift=1.0)
# Fifteen levels of radix 2, 2^-8 .. 2^6, in the place of both phases; 8 bits in memory.
FP5_140 = Format("fp5.140", 5, exp=4, radix=2, bias=9)
# Unbiased gradients (Chmiel et al., ICLR 2023): 0 and 1, 2, 4 .. 2^(n-1), n to a sign; eight or
# nine of them need 5 bits.
LUQ = {5: Format("fp4.luq5", 4, exp=3, bias=1, top=5), 7: FP4_R2} | {
    n: Format(f"fp5.luq{n}", 5, exp=4, bias=1, top=n) for n in (8, 9)
}
# ml_dtypes' float8_e4m3fn: the all-ones code is NaN, the top is 448.
FP8_143 = Format("fp8.143", 8, exp=4, man=3, bias=7, subnormals=True, specials=(0x7F,))
# HFP8's forward format: bias 11, no subnormals, top 30.
FP8_143_IBM = Format("fp8.143.ibm", 8, exp=4, man=3, bias=11)
# Other readings of that format: bias (b), the all-ones code a NaN (top 28; 448 with bias 7),
# subnormals.
FP8_143_READINGS = tuple(
    Format(
        f"fp8.143.b{bias}{'.nan' if nan else ''}{'.sub' if subnormals else ''}",
        8,
        exp=4,
        man=3,
        bias=bias,
        subnormals=subnormals,
        specials=(0x7F,) if nan else (),
    )
    for bias in (7, 11)
    for nan in (False, True)
    for subnormals in (False, True)
    if (bias, nan, subnormals) not in ((7, True, True), (11, False, False))
)
# ml_dtypes' float8_e5m2: infinity and NaN in the top exponent, top 57344.
_TOP = tuple(range(0x7C, 0x80))
FP8_152 = Format("fp8.152", 8, exp=5, man=2, bias=15, subnormals=True, specials=_TOP)
# IBM's variant without subnormals.
FP8_152_IBM = Format("fp8.152.ibm", 8, exp=5, man=2, bias=15, specials=_TOP)

# What blocks of numbers are stored in beside FP8, and the power of two that scales a block (OCP
# Microscaling Formats 1.0, section 5): E2M1, E2M3, E3M2 have neither infinity nor NaN.
FP4_121, FP6_123, FP6_132 = (
    Format(f"fp{1 + e + m}.1{e}{m}", 1 + e + m, exp=e, man=m, bias=bias, subnormals=True)
    for e, m, bias in ((2, 1, 1), (2, 3, 1), (3, 2, 3))
)
E8M0 = Format("e8m0", 8, exp=8, bias=127, signed=False, specials=(255,))

# What averages of gradients and of their squares are stored in between steps (Dettmers et al., ICLR
# 2022; in 4 bits Li, Chen and Zhu, NeurIPS 2023), as torchao has them: decades of levels, and
# equal steps without a zero.
DYN8, DYN4 = (Format(f"dyn{b}", b, listed=dynamic(b, b - 1, signed=True)) for b in (8, 4))
UDYN8 = Format("udyn8", 8, signed=False, listed=dynamic(8, 7, signed=False))
ULIN4 = Format("ulin4", 4, signed=False, listed=linear(4))

# IBM's 16-bit float of sums: no subnormals, one code for infinity and NaN (DLFloat, Agrawal et al.,
# ARITH 2019); from 2^-31 (1 + 2^-9) to 2^33 - 2^24.
FP16_169 = Format("fp16.169", 16, exp=6, man=9, bias=31, specials=(0x7FFF,))


@dataclass(frozen=True, slots=True)
class HalfFloat:
    """A 16-bit float of sums and weights; ``largest`` is the code of its largest number."""

    format: Format
    largest: int

    @property
    def top(self) -> float:
        """The largest number."""
        return self.format.decode(self.largest)

    @property
    def least(self) -> float:
        """The smallest positive number."""
        return self.format.decode(1)

    @property
    def normal(self) -> float:
        """Where the distance of neighbours begins to grow: the first power of two of full width."""
        return 2.0 ** (int(self.format.subnormals) - self.format.bias)

    @property
    def precision(self) -> int:
        """Significant bits."""
        return self.format.man + 1


# fp16.169 is one of sums and rounded weights alone: no tensor has it.
HALF_FLOATS = {f.format.name: f for f in (HalfFloat(FP16_169, 0x7FFE), HalfFloat(F16, 0x7BFF))}

FORMATS = {
    f.name: f
    for f in (
        *(F32, BF16, F16, I64, I32, *INTS.values(), INT15, INT16, UINT16),
        *(*UINTS.values(), *MIDRISE.values(), INT5_17, INT5_24),
        *(FP4_EVEN, FP4_ODD, FP4_ODD_LOW, FP4_R2, FP4_R8),
        *(FP4_R16_EVEN, FP4_R16_ODD, FP4_R16_ODD_LOW, FP5_140),
        *(LUQ[5], LUQ[8], LUQ[9]),
        *(FP4_121, FP6_123, FP6_132, E8M0),
        *(DYN8, UDYN8, DYN4, ULIN4),
        *(FP8_143, FP8_143_IBM, *FP8_143_READINGS, FP8_152, FP8_152_IBM),
    )
}
