"""Sums of products in a 16-bit float, in chunks: what the ``accumulator`` of a GEMM stands for.

"Training Deep Neural Networks with 8-bit Floating Point Numbers" (Wang et al., NeurIPS 2018),
on chunk-based accumulation:

    total = 0
    for each chunk of the products:
        part = 0
        for each product p in it:
            part = round(part + p)
        total = round(total + part)

``round`` goes to the nearest number of the accumulator, ties to even; beyond its largest number
to infinity, and below the smallest one, where it has no subnormals, to that or to zero, whichever
is nearer. The products are those of stored numbers; scales apply to the total.

The order of the products is fixed:

    product                  order of the sum
    forward                  taps row by row, in each the input channels
    dX                       taps row by row, in each the output channels
    dW                       images, in each the places of dY row by row

A transposed convolution sums as the convolution whose arithmetic it has, and a product of
activations in the order of the dimension that it sums over. Products with the zero
border, and of dX those between strides, are zeros that count.

A product is a number of no more significant bits than the accumulator's (``refusal`` sees to it),
and then f32 is wide enough: rounding the sum of two p-bit numbers to q >= 2p + 2 bits first changes
nothing (Figueroa, "When is double rounding innocuous?", 1995), q = 24 and p <= 11. Near zero, where
the accumulator's numbers have one distance, f32 holds the sums exactly: multiples of 2^-40 below
2^-30 in fp16.169, and with FP8 operands multiples of 2^-34 below 2^-14 in f16.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from ..formats import HALF_FLOATS, Format, HalfFloat
from ..types import Scale
from .program import Op

NAMES = ("accumulator", "chunk")


@dataclass(frozen=True, slots=True)
class Accumulation:
    """What a sum is rounded to, and products a chunk; 0: all of them are one chunk.

    Sums that round beyond the largest number are infinite.
    """

    numbers: HalfFloat
    chunk: int

    @property
    def format(self) -> Format:
        """The format of a sum."""
        return self.numbers.format

    def chunk_of(self, length: int) -> int:
        """Products a chunk, of a sum of ``length``."""
        return min(self.chunk, length) if self.chunk else length


def accumulation(op: Op) -> Accumulation | None:
    """How a GEMM adds up its products; None: exactly, or in f32 in an order of the target's."""
    if "accumulator" not in op.attrs:
        return None
    numbers = HALF_FLOATS[op.word_attr("accumulator")]
    return Accumulation(numbers, op.int_attr("chunk"))


def refusal(op: Op, summed: Collection[int]) -> str:
    """Why a GEMM cannot add up as its attributes say; empty where it can.

    ``summed`` are the operands over whose dimension 0 it sums.
    """
    given = [name for name in NAMES if name in op.attrs]
    if not given:
        return ""
    if len(given) < len(NAMES):
        return f"{op.kind} has {given[0]} alone; accumulator and chunk come together"
    how = accumulation(op)
    assert how is not None
    for i, v in enumerate(op.inputs):
        f, scale = v.type.format, v.type.scale
        if not f.is_coded or scale is Scale.NONE or not scale.is_factor:
            return f"accumulator={how.format} adds products of codes with a factor, not {v.type}"
        if scale is Scale.CHANNEL and i in summed:
            return f"accumulator={how.format} cannot sum over the channels of the scale of {v.type}"
    formats = [v.type.format for v in op.inputs]
    bits = sum(map(significant_bits, formats))
    if bits > how.numbers.precision:
        pair = " and ".join(map(str, formats))
        return (
            f"accumulator={how.format} has {how.numbers.precision} significant bits;"
            f" products of {pair} have {bits}"
        )
    return ""


@cache
def significant_bits(f: Format) -> int:
    """Bits from the highest to the lowest one set, of the level that has most of them."""
    return max(_odd_part(level).bit_length() for level in f.levels())


def _odd_part(level: float) -> int:
    numerator = abs(int(level.as_integer_ratio()[0]))
    return numerator // (numerator & -numerator) if numerator else 0
