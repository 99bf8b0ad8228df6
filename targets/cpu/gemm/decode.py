"""Decode: codes and carriers to the numbers that a unit multiplies, on vectors of any width.

Codes arrive in lanes as wide as the numbers that they become: u8 -> u8 (int8 dot), u16 -> i16,
u32 -> i32 or f32.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.formats import BF16, F16, F32, Format
from ...numbers.integers import integers
from ...tir.expr import Expr, shuffle, typed
from ...tir.formats import log_step
from .units import Dot
from .vectors import bits, cast, splat

# vpshufb looks sixteen bytes up, by the number of lanes.
LOOKUPS = {
    16: "llvm.x86.ssse3.pshuf.b.128",
    32: "llvm.x86.avx2.pshuf.b",
    64: "llvm.x86.avx512.pshuf.b.512",
}
TABLE_BITS = 4
WIDTHS = {"uint8": 8, "int8": 8, "int16": 16, "uint16": 16, "int32": 32, "float32": 32}


@dataclass(frozen=True, slots=True)
class Numbers:
    """How numbers lie in scratch: elements of ``dtype``, ``zero`` more than the number."""

    dtype: str
    zero: int = 0

    @property
    def width(self) -> int:
        """Bits of an element."""
        return WIDTHS[self.dtype]

    @property
    def wide(self) -> str:
        """The type in which ``of_number`` takes a single number."""
        return "float32" if self.dtype == "float32" else "int32"

    def of_codes(self, f: Format, codes: Expr, lanes: int) -> Expr:
        """From codes in unsigned lanes as wide as an element."""
        return from_codes(f, codes, self.dtype, lanes, self.zero)

    def of_carrier(self, f: Format, stored: Expr, lanes: int) -> Expr:
        """From stored elements of a carrier."""
        assert self.dtype == "float32", f"{f} is no {self.dtype}"
        return from_carrier(f, stored, lanes)

    def of_number(self, number: Expr) -> Expr:
        """From one number of type ``wide``."""
        return number if self.wide == self.dtype else cast(number + self.zero, self.dtype)


@dataclass(frozen=True, slots=True)
class Halves(Numbers):
    """bf16 in scratch, by its bits."""

    dtype: str = "uint16"

    @property
    def wide(self) -> str:
        """See ``Numbers``."""
        return "float32"

    def of_codes(self, f: Format, codes: Expr, lanes: int) -> Expr:
        """See ``Numbers``."""
        return _upper(from_codes(f, cast(codes, "uint32", lanes), "float32", lanes), lanes)

    def of_carrier(self, f: Format, stored: Expr, lanes: int) -> Expr:
        """See ``Numbers``."""
        assert f is BF16, f
        return stored

    def of_number(self, number: Expr) -> Expr:
        """See ``Numbers``."""
        return _upper(number, 1)


def _upper(number: Expr, lanes: int) -> Expr:
    """The upper half of an f32 whose lower half is 0."""
    sixteen = splat(16, "uint32", lanes)
    return cast(tir.shift_right(bits(number, "uint32", lanes), sixteen), "uint16", lanes)


def numbers_of(dtype: str, zero: int = 0) -> Numbers:
    """How numbers of an operand of a dot lie in scratch: u16 is bf16."""
    return Halves() if dtype == "uint16" else Numbers(dtype, zero)


def from_codes(f: Format, codes: Expr, dtype: str, lanes: int, zero: int = 0) -> Expr:
    """Numbers of ``dtype`` plus ``zero`` from ``codes``, unsigned and as wide as ``dtype``.

    Integer formats are in units of their smallest level, see ``integers``.
    """
    if dtype == "uint8":
        return _biased(f, codes, lanes, zero)
    if dtype != "float32":
        return _integer(f, bits(codes, dtype, lanes), dtype, lanes)
    if f.is_integer or integers(f) is not None:
        return cast(_integer(f, bits(codes, "int32", lanes), "int32", lanes), "float32", lanes)
    return _small_float(f, codes, lanes)


def from_carrier(f: Format, stored: Expr, lanes: int) -> Expr:
    """f32 from stored elements of a carrier."""
    if f is F32:
        return stored
    if f is F16:
        return cast(stored, "float32", lanes)
    assert f is BF16
    wide = cast(stored, "uint32", lanes)
    return bits(tir.shift_left(wide, splat(16, "uint32", lanes)), "float32", lanes)


def zero_of(dot: Dot) -> float:
    """What padding holds in the first operand."""
    return float(dot.zero)


def _biased(f: Format, c: Expr, lanes: int, zero: int) -> Expr:
    """u8 numbers of a format of integers, ``zero`` more than the number."""
    if f.is_log:
        return _biased_levels(f, c, lanes, zero)
    if f.midrise:
        return c + c
    if not f.signed:
        return c if zero == 0 else c + splat(zero, "uint8", lanes)
    half = 1 << (f.bits - 1)
    # Flipping the sign bit adds 2^(bits - 1); codes beyond an end mean the level there.
    flipped = tir.bitwise_xor(c, splat(half, "uint8", lanes))
    low, high = (int(end) + half for end in (f.levels()[0], f.max))
    flipped = tir.max(flipped, splat(low, "uint8", lanes))
    return tir.min(flipped, splat(high, "uint8", lanes)) if high < 2 * half - 1 else flipped


def _biased_levels(f: Format, c: Expr, lanes: int, zero: int) -> Expr:
    """The same of a logarithmic format of at most 4 bits: looked up where vectors allow it."""
    if lanes in LOOKUPS:
        table = [level + zero for level in _levels(f)]
        return bits(lookup(table, c, lanes), "uint8", lanes)
    number = bits(_integer(f, bits(c, "int8", lanes), "int8", lanes), "uint8", lanes)
    return number + splat(zero, "uint8", lanes)


def _looked_up(f: Format, c: Expr, lanes: int) -> Expr:
    """i16 numbers of a logarithmic format: AVX2 does not shift int16 by lanes of their own.

    Both bytes are looked up apart. The upper byte of a lane has code 0, which is the number 0.
    """
    words = [word % (1 << 16) for word in _levels(f)]
    assert words[0] == 0, f"{f} has no zero at code 0"
    low, high = (
        bits(lookup([word >> shift & 0xFF for word in words], c, 2 * lanes), "int16", lanes)
        for shift in (0, 8)
    )
    return tir.bitwise_or(low, tir.shift_left(high, splat(8, "int16", lanes)))


def _levels(f: Format) -> list[int]:
    """The number of each code."""
    numbers = integers(f)
    assert numbers is not None and f.bits <= TABLE_BITS, f"{f} has no table of sixteen bytes"
    return [int(f.decode(code) / numbers.unit) for code in range(1 << f.bits)]


def lookup(levels: list[int], codes: Expr, lanes: int) -> Expr:
    """The byte (i8) of each code in a table of up to sixteen; ``lanes`` are among ``LOOKUPS``."""
    raw = bytes(level % 256 for level in [*levels, *[0] * (16 - len(levels))])
    words = [int.from_bytes(raw[i : i + 4], "little", signed=True) for i in range(0, 16, 4)]
    repeated = words * (lanes // 16)
    table = shuffle([tir.const(word, "int32") for word in repeated], range(len(repeated)))
    operands = bits(table, "int8", lanes), bits(codes, "int8", lanes)
    return tir.call_llvm_pure_intrin(typed("int8", lanes), LOOKUPS[lanes], *operands)


def _integer(f: Format, c: Expr, dtype: str, lanes: int) -> Expr:
    """Signed integers from codes already in lanes of ``dtype``."""

    def k(value: int) -> Expr:
        return splat(value, dtype, lanes)

    if f.is_log and dtype == "int16" and f.bits <= TABLE_BITS and 2 * lanes in LOOKUPS:
        return _looked_up(f, c, lanes)
    if f.is_log:
        step = f.radix.bit_length() - 1
        exponent = tir.bitwise_and(c, k((1 << f.exp) - 1))
        exponent = (tir.min(exponent, k(f.top)) if f.top else exponent) * k(step)
        # 2^(step e) >> step is 0 for e = 0: the code of zero needs no test. The power may reach
        # the sign bit, so the shift to the right is that of unsigned numbers.
        plain = dtype.replace("int", "uint")
        power = bits(tir.shift_left(k(1), exponent), plain, lanes)
        magnitude = bits(tir.shift_right(power, splat(step, plain, lanes)), dtype, lanes)
        negative = k(0) - tir.shift_right(c, k(f.bits - 1))
        return tir.bitwise_xor(magnitude, negative) - negative
    if f.midrise:
        return c + c - k((1 << f.bits) - 1)
    if not f.signed:
        return c
    half = 1 << (f.bits - 1)
    # As wide as its lane a code is the number already.
    same = WIDTHS[dtype] == f.bits
    low, high = (int(end) for end in (f.levels()[0], f.max))
    value = tir.max(c if same else tir.bitwise_xor(c, k(half)) - k(half), k(low))
    return tir.min(value, k(high)) if high < half - 1 else value


def _small_float(f: Format, c: Expr, lanes: int) -> Expr:
    """f32 from u32 codes of a float format of at most 8 bits: binary, or with levels alone."""
    assert f.is_log or (f.exp and f.radix == 2 and f.shift == 1.0)

    def k(value: int) -> Expr:
        return splat(value, "uint32", lanes)

    magnitude = tir.bitwise_and(c, k((1 << (f.bits - 1)) - 1))
    sign = tir.shift_left(tir.bitwise_xor(c, magnitude), k(32 - f.bits))
    if f.is_log:
        first, distance = log_step(f)
        number = tir.Select(magnitude == k(0), k(0), magnitude * k(distance) + k(first - distance))
        return bits(tir.bitwise_or(number, sign), "float32", lanes)
    exponent = k((127 - f.bias) << 23)
    number = tir.shift_left(magnitude, k(23 - f.man)) + exponent
    if f.subnormals:
        tiny = cast(bits(magnitude, "int32", lanes), "float32", lanes)
        tiny = bits(tiny * splat(2.0 ** (1 - f.bias - f.man), "float32", lanes), "uint32", lanes)
        number = tir.Select(magnitude < k(1 << f.man), tiny, number)
    else:
        number = tir.Select(magnitude == k(0), k(0), number)
    for special in f.specials:
        number = tir.Select(magnitude == k(special), k(_special(f, special)), number)
    return bits(tir.bitwise_or(number, sign), "float32", lanes)


def _special(f: Format, code: int) -> int:
    infinite = abs(f.decode(code)) == float("inf")
    return 0x7F800000 if infinite else 0x7FC00000
