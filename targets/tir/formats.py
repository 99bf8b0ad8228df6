"""Formats in generated code: decode, encode and round by arithmetic on the bits of f32.

``rounding.py`` says by search what these must give; every constant here derives from a ``Format``.
"""

from __future__ import annotations

import math
import struct

from tvm import tirx as tir

from ...compiler.formats import BF16, F16, F32, Format
from .expr import Expr, Vectors

# Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits of the pattern.
MAGIC = 12582912.0
SIGN, INFINITY = 0x80000000, 0x7F800000
QUIET = 0x00400000  # the bit that a NaN keeps in 16 bits
MAGNITUDE = 0x7FFFFFFF
HALVES = 0x400000  # the mantissa of 1.5; of a number without an exponent 2^-127


def f32_bits(value: float) -> int:
    """The bit pattern of ``value`` rounded to f32."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def f32_above(value: float, strictly: bool) -> int:
    """The bits of the smallest f32 that is >= (``strictly``: >) a positive double."""
    bits = f32_bits(value)
    near = struct.unpack("<f", struct.pack("<I", bits))[0]
    return bits + 1 if near < value or (strictly and near == value) else bits


def integer_bits(v: Vectors, x: Expr, bits: int) -> Expr:
    """The low ``bits`` bits of an f32's nearest integer, |x| < 2^22; NaN gives 0."""
    return v.bits(v.add(x, v.splat(MAGIC))) & v.u((1 << bits) - 1)


def from_memory(v: Vectors, raw: Expr, f: Format) -> Expr:
    """The f32 number of a stored carrier."""
    if f == BF16:
        return v.to_f(v.cast(raw, "uint32") << v.u(16))
    return v.cast(raw, "float32") if f == F16 else raw


def to_memory(v: Vectors, x: Expr, f: Format) -> Expr:
    """What is stored of an f32 that ``round_carrier`` has rounded."""
    if f == BF16:
        return v.cast(v.bits(x) >> v.u(16), "uint16")
    return v.cast(x, "float16") if f == F16 else x


def round_carrier(v: Vectors, x: Expr, f: Format) -> Expr:
    """An f32 name rounded to the nearest number of a carrier, ties to even, as an f32 name.

    A NaN stays one, of its sign: a carry out of its bits would make it a zero or an infinity.
    """
    if f == F32:
        return x
    if f == F16:
        return v.f(v.cast(v.cast(x, "float16"), "float32"))
    u = v.bits(x)
    odd = (u >> v.u(16)) & v.u(1)
    nearest = u + (odd + v.u(0x7FFF))
    # Of all but NaN the comparison is true: one instruction.
    made = v.where(x <= v.splat(math.inf), nearest, u | v.u(QUIET))
    return v.f(v.to_f(made & v.u(0xFFFF0000)))


def decode(v: Vectors, code: Expr, f: Format) -> Expr:
    """The number (without scale) that a u32 code stands for, as f32."""
    if f.midrise:
        return v.cast(v.signed(code + code) - v.i((1 << f.bits) - 1), "float32")
    if not f.exp:
        if not f.signed:
            return v.cast(v.signed(code), "float32")
        half = 1 << (f.bits - 1)
        value = v.signed(code ^ v.u(half)) - v.i(half)
        low, high = (int(end) for end in (f.levels()[0], f.max))
        value = tir.max(value, v.i(low))
        return v.cast(tir.min(value, v.i(high)) if high < half - 1 else value, "float32")
    if f.is_exponent:
        made = v.where(code == v.u(0), v.u(HALVES), code << v.u(23))
        return v.to_f(v.where(code == v.u(f.specials[0]), v.u(INFINITY | QUIET), made))
    sign = (code >> v.u(f.bits - 1)) << v.u(31)
    magnitude = code & v.u((1 << (f.bits - 1)) - 1)
    return v.to_f(v.bits(v.f(decode_magnitude(v, magnitude, f))) | sign)


def decode_magnitude(v: Vectors, code: Expr, f: Format) -> Expr:
    """The number of a code without its sign bit, in a format with an exponent."""
    code = v.hold(code)
    if f.is_log:
        first, step = log_step(f)
        if f.top:
            code = v.hold(tir.min(code, v.u(f.top)))
        bits = code * v.u(step) + v.u((first - step) & 0xFFFFFFFF)
        return v.where(code == v.u(0), v.splat(0.0), v.to_f(bits))
    assert f.radix == 2 and f.shift == 1, f"{f} has no arithmetic decoding"
    bits = (code << v.u(23 - f.man)) + v.u((127 - f.bias) << 23)
    if f.subnormals:
        small = v.mul(v.cast(v.signed(code), "float32"), v.splat(2.0 ** (1 - f.bias - f.man)))
        value = v.where(code < v.u(1 << f.man), small, v.to_f(bits))
    else:
        value = v.where(code == v.u(0), v.splat(0.0), v.to_f(bits))
    if not f.specials:
        return value
    value = v.f(value)
    infinite = [c for c in f.specials if math.isinf(f.decode(c))]
    special = v.splat(math.nan)
    if infinite:
        special = v.where(code == v.u(infinite[0]), v.splat(math.inf), special)
    return v.where(code >= v.u(min(f.specials)), special, value)


def encode(v: Vectors, x: Expr, f: Format) -> Expr:
    """The u32 code of the level nearest to an f32 name, ties to the even code, saturating."""
    if f.is_exponent:
        return _encode_exponent(v, x, f)
    if f.exp and f.is_log:
        return _encode_by_counting(v, x, f)
    if f.exp:
        return _encode_float(v, x, f)
    if f.midrise:
        return _encode_midrise(v, x, f)
    x = nan_to_infinity(v, x)
    low = v.f(tir.max(x, v.splat(f.levels()[0])))
    return integer_bits(v, v.f(tir.min(low, v.splat(f.max))), f.bits)


def sign_code(v: Vectors, x: Expr, f: Format) -> Expr:
    """The sign bit of an f32 at its place in a code."""
    return (v.bits(x) >> v.u(31)) << v.u(f.bits - 1)


def log_level(v: Vectors, x: Expr, f: Format, threshold: int) -> Expr:
    """1 + the number of times that |x| holds the radix above the f32 with bits ``threshold``.

    0 .. top level, by subtracting bit patterns: thresholds one level apart differ in the exponent
    alone. NaN goes to the top. The result is an i32.
    """
    _, step = log_step(f)
    magnitude = v.signed(v.bits(x) & v.u(0x7FFFFFFF))
    above = magnitude - v.i(threshold - step)
    if step & (step - 1):
        # Exponents by exponents a level: n / 3 is (n * 171) >> 9 for n < 512.
        assert f.radix == 8, f"no arithmetic for radix {f.radix}"
        level = ((tir.max(above, v.i(0)) >> v.i(23)) * v.i(171)) >> v.i(9)
    else:
        level = above >> v.i(step.bit_length() - 1)
    return tir.max(tir.min(level, v.i(f.top_exponent)), v.i(0))


def log_step(f: Format) -> tuple[int, int]:
    """Bits of the smallest positive level, and the distance of neighbours' bits."""
    return f32_bits(f.smallest), (f.radix.bit_length() - 1) << 23


def is_nan(v: Vectors, x: Expr) -> Expr:
    """Where an f32 is no number; TVM folds ``x != x`` away."""
    return (v.bits(x) & v.u(0x7FFFFFFF)) > v.u(INFINITY)


def nan_to_infinity(v: Vectors, x: Expr) -> Expr:
    """Infinity of the same sign for NaN."""
    infinity = v.to_f((v.bits(x) & v.u(SIGN)) | v.u(INFINITY))
    return v.f(v.where(is_nan(v, x), infinity, x))


def _encode_float(v: Vectors, x: Expr, f: Format) -> Expr:
    assert f.radix == 2 and f.shift == 1, f"{f} has no arithmetic encoding"
    size = v.hold(v.bits(x) & v.u(0x7FFFFFFF))
    shift = 23 - f.man
    odd = (size >> v.u(shift)) & v.u(1)
    rounded = (size + (odd + v.u((1 << (shift - 1)) - 1))) >> v.u(shift)
    normal = v.hold(rounded - v.u((127 - f.bias) << f.man))
    if f.subnormals:
        small = v.mul(v.to_f(size), v.splat(2.0 ** (f.bias - 1 + f.man)))
        # Where the number is not small this is garbage, and not taken.
        code = v.where(
            size < v.u(f32_bits(2.0 ** (1 - f.bias))), integer_bits(v, small, f.bits), normal
        )
    else:
        least = v.unsigned(tir.max(v.signed(normal), v.i(1)))
        code = v.where(size > v.u(f32_bits(f.smallest / 2)), least, v.u(0))
    code = tir.min(code, v.u(_top_code(f)))
    nans = [c for c in f.specials if math.isnan(f.decode(c)) and c >> (f.man - 1) & 1]
    if nans:
        code = v.where(size > v.u(INFINITY), v.u(nans[0]), code)
    return code | sign_code(v, x, f)


def _encode_exponent(v: Vectors, x: Expr, f: Format) -> Expr:
    """The nearest of the powers of two that f32's own exponents count; the least of what is < 0."""
    assert (f.bias, f.bits) == (127, 8), f"{f} has no arithmetic encoding"
    raw = v.bits(x)
    size = v.hold(v.where(raw > v.u(SIGN | INFINITY), raw & v.u(MAGNITUDE), raw))
    odd = (size >> v.u(23)) & v.u(1)
    normal = tir.min((size + (v.u(HALVES - 1) + odd)) >> v.u(23), v.u(f.specials[0] - 1))
    # Halfway between 2^-127 and 2^-126.
    small = v.where(size > v.u(HALVES + (HALVES >> 1)), v.u(1), v.u(0))
    code = v.where(size < v.u(1 << 23), small, normal)
    code = v.where(size >= v.u(SIGN), v.u(0), code)
    return v.where((size > v.u(INFINITY)) & (size < v.u(SIGN)), v.u(f.specials[0]), code)


def _top_code(f: Format) -> int:
    return next(c for c in range(1 << (f.bits - 1)) if f.decode(c) == f.max)


def _encode_by_counting(v: Vectors, x: Expr, f: Format) -> Expr:
    """Count the midpoints below |x|: for formats of a few levels whose ties alternate."""
    size = v.hold(v.bits(x) & v.u(0x7FFFFFFF))
    levels = [0.0, *(level for level in f.levels() if level > 0)]
    code = v.u(0)
    for upper in range(1, len(levels)):
        middle = (levels[upper - 1] + levels[upper]) / 2
        reach = f32_above(middle, strictly=upper % 2 == 1)
        code = code + v.cast(size >= v.u(reach), "uint32")
    return code | sign_code(v, x, f)


def _encode_midrise(v: Vectors, x: Expr, f: Format) -> Expr:
    x = nan_to_infinity(v, x)
    code = v.u(0)
    for upper in range(1, 1 << f.bits):
        middle = v.splat((f.decode(upper - 1) + f.decode(upper)) / 2)
        code = code + v.cast(x > middle if upper % 2 else x >= middle, "uint32")
    return code
