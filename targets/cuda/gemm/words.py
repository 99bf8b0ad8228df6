"""Words of packed codes as planes, several numbers at once.

Up to four bits, the nibbles of a word select bytes of a table: eight numbers of a plane take two
look-ups for codes with the upper bit clear and two for the others.
"""

from __future__ import annotations

import struct

from tvm import tirx as tir

from ....compiler.formats import Format
from ...numbers.integers import unit_of
from ...plan.kernel import Unit
from ...tir.expr import Expr, Vectors
from ...tir.formats import decode
from ..code import DeviceCode
from ..ptx import keep, permuted, u32
from .frame import Plane

# Signs of the nibbles of two bytes: of ``word << 4`` the lower ones, of ``word`` the upper ones.
SIGNS = (0xD9C8, 0xFBEA)
LOWER, UPPER = 0x6420, 0x7531


def planes_of_word(
    code: DeviceCode, word: Expr, f: Format, unit: Unit, planes: tuple[Plane, ...]
) -> list[list[list[Expr]]]:
    """Of each plane, for the first codes of the four bytes, then the second ones ..., their words.

    One word holds four bytes; of bf16 it takes two.
    """
    if f.storage_bits == 8:
        return [[one] for one in _bytes(code, word, f, unit, planes)]
    tables = _tables(f, unit, len(planes))
    made: list[list[list[Expr]]] = [[] for _ in planes]
    step = f.storage_bits
    turns = 4 // step
    halves: list[list[tuple[Expr, Expr]]] = []
    for turn in range(turns):
        digits = word if turn == 0 else word >> u32(turn * step)
        if step < 4:
            digits = digits & u32(0x11111111 * ((1 << step) - 1))
        digits = keep(code, digits, "uint32")
        halves.append(_looked_up(code, digits, tables, signs=step == 4))
    for which in (0, 1):
        for turn in range(turns):
            bytes_ = [pair[which] for pair in halves[turn]]
            if unit is Unit.BF16_MMA:
                low, high = bytes_
                made[0].append([permuted(code, low, high, s) for s in (0x5140, 0x7362)])
                continue
            for p, one in enumerate(bytes_):
                made[p].append([one])
    return made


def _tables(f: Format, unit: Unit, planes: int) -> list[bytes]:
    """The bytes of the number of every nibble, plane by plane; of bf16 the low and the high ones."""
    step = f.storage_bits
    numbers = [f.decode(nibble & ((1 << f.bits) - 1)) for nibble in range(1 << step)]
    if unit is Unit.BF16_MMA:
        bits = [struct.unpack("<I", struct.pack("<f", x))[0] >> 16 for x in numbers]
        return [bytes(b >> s & 255 for b in bits) for s in (0, 8)]
    units = [int(x / unit_of(f)) for x in numbers]
    return [bytes(x >> s & 255 for x in units) for s in (0, 8)[:planes]]


def _looked_up(
    code: DeviceCode, digits: Expr, tables: list[bytes], *, signs: bool
) -> list[tuple[Expr, Expr]]:
    """For each table the bytes of the lower and of the upper nibbles."""
    plain = keep(code, digits & u32(0x77777777), "uint32") if signs else digits
    selectors = plain, keep(code, plain >> u32(16), "uint32")
    masks: list[Expr] = []
    if signs:
        shifted = keep(code, digits << u32(4), "uint32")
        masks = [permuted(code, shifted, digits, s) for s in SIGNS]
    made = []
    for table in tables:
        mixed = []
        for i, selector in enumerate(selectors):
            value = permuted(code, *_eight(table[:8]), selector)
            if signs:
                other = permuted(code, *_eight(table[8:]), selector)
                value = keep(
                    code, (value & tir.bitwise_not(masks[i])) | (other & masks[i]), "uint32"
                )
            mixed.append(value)
        made.append((permuted(code, *mixed, LOWER), permuted(code, *mixed, UPPER)))
    return made


def _eight(table: bytes) -> tuple[Expr, Expr]:
    low, high = struct.unpack("<II", table.ljust(8, b"\0"))
    return u32(low), u32(high)


def _bytes(
    code: DeviceCode, word: Expr, f: Format, unit: Unit, planes: tuple[Plane, ...]
) -> list[list[Expr]]:
    """Of each plane the words of four codes of a byte each."""
    plain = f.is_integer and not f.signed and not f.midrise and f.bits == 8
    if plain and unit is Unit.INT8_MMA:
        return [[word]]
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
