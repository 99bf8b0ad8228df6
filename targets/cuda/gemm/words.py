"""Words of packed codes as planes, several numbers at once.

Up to four bits, the nibbles of a word select bytes of a table: eight numbers of a plane take two
look-ups for codes with the upper bit clear and two for the others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tvm import tirx as tir

from ....compiler.formats import Format
from ...numbers.integers import unit_of
from ...plan.kernel import Unit
from ...tir.expr import Expr, Vectors
from ...tir.formats import decode
from ..code import DeviceCode
from ..ptx import keep, permuted, u32
from .planes import Plane

# Signs of the nibbles of two bytes: of ``word << 4`` the lower ones, of ``word`` the upper ones.
SIGNS = (0xD9C8, 0xFBEA)
LOWER, UPPER = 0x6420, 0x7531


def planes_of_word(
    code: DeviceCode, word: Expr, f: Format, unit: Unit, planes: tuple[Plane, ...]
) -> list[list[list[Expr]]]:
    """Of each plane, for the first codes of the four bytes, then the second ones ..., their words.

    One word holds four bytes; of bf16 it takes two.
    """
    if unit is Unit.INT4_MMA:
        return [[[_lifted(code, word, 4) if f.signed else word]]]
    if unit is Unit.INT8_MMA and f.is_integer and not (f.signed or f.midrise):
        return [[[one] for one in _plain(code, word, f)]]
    if f.storage_bits == 8:
        return [[one] for one in _bytes(code, word, f, unit, planes)]
    lower, upper = zip(*_nibbles(code, word, f, _tables(f, unit, len(planes))), strict=True)
    made: list[list[list[Expr]]] = [[] for _ in planes]
    for looked_up in (*lower, *upper):
        if unit is Unit.BF16_MMA:
            made[0].append(
                [permuted(code, looked_up[0], looked_up[1], s) for s in (0x5140, 0x7362)]
            )
            continue
        for plane, one in zip(made, looked_up, strict=True):
            plane.append([one])
    return made


def _plain(code: DeviceCode, word: Expr, f: Format) -> list[Expr]:
    """Codes that are their numbers."""
    step = f.storage_bits
    if f.bits == 8:
        return [word]
    each = u32(0x01010101 * ((1 << f.bits) - 1))
    turns = range(0, 8, step)
    return [keep(code, (word >> u32(s) if s else word) & each, "uint32") for s in turns]


def _nibbles(
    code: DeviceCode, word: Expr, f: Format, tables: list[bytes]
) -> Iterator[tuple[list[Expr], list[Expr]]]:
    """Shift by shift the bytes of the lower nibbles, a word a table, and of the upper ones."""
    step = f.storage_bits
    for shift in range(0, 4, step):
        digits = word >> u32(shift) if shift else word
        if step < 4:
            digits = digits & u32(0x11111111 * ((1 << step) - 1))
        yield _looked_up(code, keep(code, digits, "uint32"), tables, signs=step == 4)


def _tables(f: Format, unit: Unit, planes: int) -> list[bytes]:
    """The bytes of every nibble's number, plane by plane; of bf16 the low and the high ones."""
    step = f.storage_bits
    numbers = [f.decode(nibble & ((1 << f.bits) - 1)) for nibble in range(1 << step)]
    if unit is Unit.BF16_MMA:
        bits = [struct.unpack("<I", struct.pack("<f", x))[0] >> 16 for x in numbers]
        return [bytes(b >> s & 255 for b in bits) for s in (0, 8)]
    units = [int(x / unit_of(f)) for x in numbers]
    return [bytes(x >> s & 255 for x in units) for s in (0, 8)[:planes]]


def _looked_up(
    code: DeviceCode, digits: Expr, tables: list[bytes], *, signs: bool
) -> tuple[list[Expr], list[Expr]]:
    plain = keep(code, digits & u32(0x77777777), "uint32") if signs else digits
    selectors = plain, keep(code, plain >> u32(16), "uint32")
    masks: list[Expr] = []
    if signs:
        shifted = keep(code, digits << u32(4), "uint32")
        masks = [permuted(code, shifted, digits, s) for s in SIGNS]
    lower, upper = [], []
    for table in tables:
        mixed = [permuted(code, *_eight(table[:8]), selector) for selector in selectors]
        for i, mask in enumerate(masks):
            other = permuted(code, *_eight(table[8:]), selectors[i])
            both = (mixed[i] & tir.bitwise_not(mask)) | (other & mask)
            mixed[i] = keep(code, both, "uint32")
        lower.append(permuted(code, mixed[0], mixed[1], LOWER))
        upper.append(permuted(code, mixed[0], mixed[1], UPPER))
    return lower, upper


def _eight(table: bytes) -> tuple[Expr, Expr]:
    low, high = struct.unpack("<II", table.ljust(8, b"\0"))
    return u32(low), u32(high)


def _signed(code: DeviceCode, word: Expr, bits: int) -> Expr:
    """Four codes in two's complement as bytes with a sign, the lowest as the one above it."""
    if bits == 8:
        return _lifted(code, word, bits)
    half, ones = u32(0x01010101 << (bits - 1)), u32(0x01010101)
    above = keep(code, word ^ half, "uint32")  # the number plus half
    some = keep(code, (above + u32(0x7F7F7F7F)) >> u32(7) & ones, "uint32")
    # The upper bit takes no borrow from one byte to the next.
    number = ((above | u32(0x80808080)) - half) ^ u32(0x80808080)
    return keep(code, number + (ones - some), "uint32")


def _lifted(code: DeviceCode, word: Expr, bits: int) -> Expr:
    """Codes in two's complement, none beside them, the lowest as the one above it."""
    each = 0x11111111 if bits == 4 else 0x01010101
    ones, half, low = u32(each), u32(each << (bits - 1)), u32((each << (bits - 1)) - each)
    above = keep(code, word ^ half, "uint32")  # the number plus half
    some = keep(code, (((above & low) + low) | above) >> u32(bits - 1) & ones, "uint32")
    return keep(code, word + (ones - some), "uint32")


def _bytes(
    code: DeviceCode, word: Expr, f: Format, unit: Unit, planes: tuple[Plane, ...]
) -> list[list[Expr]]:
    """Of each plane the words of four codes of a byte each."""
    whole = f.is_integer and not f.midrise and f.ends is None
    if whole and unit is Unit.INT8_MMA:
        return [[_signed(code, word, f.bits)]]
    v = Vectors(code, 1)
    parts: list[list[Expr]] = [[] for _ in planes]
    for i in range(4):
        one = v.hold((word >> u32(8 * i)) & u32((1 << f.bits) - 1))
        number = v.f(decode(v, one, f))
        if unit is Unit.BF16_MMA:
            parts[0].append(v.hold(v.bits(number) >> u32(16)))
            continue
        scaled = v.mul(number, v.splat(1.0 / unit_of(f)))
        whole = v.hold(v.unsigned(v.cast(scaled, "int32")))
        for p in range(len(planes)):
            parts[p].append((whole >> u32(8 * p)) & u32(255))
    if unit is Unit.BF16_MMA:
        a, b, c, d = parts[0]
        return [[keep(code, x | (y << u32(16)), "uint32") for x, y in ((a, b), (c, d))]]
    joined = []
    for a, b, c, d in parts:
        made = a | (b << u32(8)) | (c << u32(16)) | (d << u32(24))
        joined.append([keep(code, made, "uint32")])
    return joined
