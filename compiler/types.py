"""Tensor types: a shape, a storage format and how the scale is attached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

from .formats import E8M0, F32, FP8_143, Format

Shape = tuple[int, ...]
BLOCK_SCALES = (E8M0, FP8_143, F32)  # what the scales of blocks may be stored in
LEAST_INNER = 2.0**-9  # the least number of fp8.143 above 0
LEAST_OUTER = 2.0**-116  # times that it is a normal f32


class Scale(Enum):
    """How a tensor carries its scale: the factor from stored numbers to real ones."""

    NONE = ""  # the stored numbers are the real ones
    TENSOR = "t"  # one f32 for the tensor
    CHANNEL = "c"  # one f32 per output channel (dimension 0)
    POW2 = "p"  # one power of two for the tensor
    AFFINE = "a"  # two f32 for the tensor: real = stored * scale + offset
    AFFINE_CHANNEL = "ac"  # two f32 for each place of dimension 0
    SQUEEZED = "s"  # alpha and beta of the tensor: |real| = (2^-beta |stored|)^(1/alpha)

    @property
    def per_channel(self) -> bool:
        """Whether each place of dimension 0 has numbers of its own."""
        return self in (Scale.CHANNEL, Scale.AFFINE_CHANNEL)

    @property
    def is_affine(self) -> bool:
        """Whether an offset belongs to it, so that real numbers are no multiples of the stored."""
        return self in (Scale.AFFINE, Scale.AFFINE_CHANNEL)

    @property
    def is_factor(self) -> bool:
        """Whether real numbers are multiples of the stored ones, so that products are too."""
        return not self.is_affine and self is not Scale.SQUEEZED


@dataclass(frozen=True, slots=True)
class BlockScale:
    """A scale for each block of a tensor: ``b1x32:e8m0`` is a power of two for 32 in a row.

    ``block`` are the sizes of a block along all dimensions; the last one along a dimension may be
    cut off. ``format`` is what the scales are stored in. ``outer`` are the sizes of larger blocks
    whose f32 multiplies the scales in them, () of one for the tensor: ``b1x16:fp8.143:b1x128``,
    ``b1x16:fp8.143:t``.
    """

    block: Shape
    format: Format
    outer: Shape | None = None

    @property
    def value(self) -> str:
        """How the text spells it."""
        inner = f"{_sizes(self.block)}:{self.format}"
        if self.outer is None:
            return inner
        return f"{inner}:{_sizes(self.outer) if self.outer else 't'}"

    @property
    def per_channel(self) -> bool:
        """Never: see ``Scale``."""
        return False

    @property
    def is_affine(self) -> bool:
        """Never: see ``Scale``."""
        return False

    @property
    def is_factor(self) -> bool:
        """Never: numbers of several blocks meet in a product."""
        return False

    def grid(self, shape: Shape) -> Shape:
        """How many blocks a tensor of this shape has along each dimension."""
        return tuple(-(-n // b) for n, b in zip(shape, self.block, strict=True))

    def outer_grid(self, shape: Shape) -> Shape | None:
        """How many larger blocks it has along each dimension, () of the tensor; None without."""
        if not self.outer:
            return self.outer
        return tuple(-(-n // b) for n, b in zip(shape, self.outer, strict=True))


def _sizes(block: Shape) -> str:
    return f"b{'x'.join(map(str, block))}"


@dataclass(frozen=True, slots=True)
class TensorType:
    """Type of a value: ``int4*t[128x64x3x3]`` is 128x64x3x3 codes of int4 with one f32 scale."""

    shape: Shape
    format: Format
    scale: Scale | BlockScale = Scale.NONE

    def __str__(self) -> str:
        return f"{self.short}[{'x'.join(map(str, self.shape))}]"

    @property
    def short(self) -> str:
        """Format and scale without the shape: ``int4*t``."""
        return self.format.name + (f"*{self.scale.value}" if self.scale is not Scale.NONE else "")

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that the codes take when packed, each tensor rounded up to a whole byte.

        With the scales of its blocks.
        """
        codes = (self.elements * self.format.storage_bits + 7) // 8
        if not isinstance(self.scale, BlockScale):
            return codes
        scales = prod(self.scale.grid(self.shape)) * self.scale.format.storage_bits // 8
        outer = self.scale.outer_grid(self.shape)
        return codes + scales + (0 if outer is None else 4 * prod(outer))


SCALAR = TensorType((), F32)  # a single number
