"""Tensor types: a shape, a storage format and how the scale is attached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

from .formats import F32, Format

Shape = tuple[int, ...]


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
class TensorType:
    """Type of a value: ``int4*t[128x64x3x3]`` is 128x64x3x3 codes of int4 with one f32 scale."""

    shape: Shape
    format: Format
    scale: Scale = Scale.NONE

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
        """Bytes that the codes take when packed, each tensor rounded up to a whole byte."""
        return (self.elements * self.format.storage_bits + 7) // 8


SCALAR = TensorType((), F32)  # a single number
