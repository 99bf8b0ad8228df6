"""Machine code of NVIDIA's GPUs from sm_80 on: instructions of a cubin, as far as tests name them."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

SIZE = 16  # bytes of an instruction
# The lower 12 bits of an instruction.
CODES = {0x237: "IMMA", 0x23C: "HMMA", 0x83B: "LDSM", 0xFAE: "LDGSTS", 0x947: "BRA"}
MULTIPLY = ("IMMA", "IMMA.16864", "HMMA")
FOUR_BITS = (
    0x38 << 16
)  # of the upper half of an IMMA: what that of nibbles has beside that of bytes


@dataclass(frozen=True, slots=True)
class Instruction:
    """Its name, "other" where none is given; of a branch that goes back, by how many."""

    name: str
    back: int = 0


def kernels(cubin: bytes) -> Iterator[tuple[str, list[Instruction]]]:
    """The kernels of an ELF file by name."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    count, names = struct.unpack_from("<HH", cubin, 0x3C)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + 64 * i) for i in range(count)]
    for name, _, _, _, offset, size in headers:
        first = headers[names][4] + name
        text = cubin[first : cubin.index(b"\0", first)].decode()
        if text.startswith(".text."):
            places = range(offset, offset + size, SIZE)
            words = (struct.unpack_from("<QQ", cubin, at) for at in places)
            yield text.removeprefix(".text."), [_instruction(*pair) for pair in words]


def _instruction(low: int, high: int) -> Instruction:
    name = CODES.get(low & 0xFFF, "other")
    if name == "IMMA" and high & FOUR_BITS == FOUR_BITS:
        name = "IMMA.16864"
    if name != "BRA":
        return Instruction(name)
    # Bytes from the next instruction on; of 48 bits the lower ones are here.
    (offset,) = struct.unpack("<i", struct.pack("<I", low >> 32))
    return Instruction(name, max(0, -offset // SIZE))


def counts(code: list[Instruction]) -> Counter[str]:
    """How often each name occurs."""
    return Counter(one.name for one in code)


def loop(code: list[Instruction]) -> Counter[str] | None:
    """Those of the smallest loop that has all products of a tensor core; None where none has."""
    products = [i for i, one in enumerate(code) if one.name in MULTIPLY]
    bodies = [range(i + 1 - one.back, i + 1) for i, one in enumerate(code) if one.back > 1]
    around = [body for body in bodies if products and set(products) <= set(body)]
    if not around:
        return None
    body = min(around, key=len)
    return counts([code[i] for i in body])
