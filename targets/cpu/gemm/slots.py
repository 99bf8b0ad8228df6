"""Slots: where the channels of a pixel lie in scratch.

Packed codes come out of a byte side by side, so that whole rows of pixels are one vector loop,
unless groups need the channels in their own order.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...gemm.shapes import channels_last, shape4
from ...plan.layout import Layout
from ...tir.expr import Index, i32

LARGEST_WORD = 64  # bits in which the codes of a byte can be spread


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a pixel of a tensor, elements of ``width`` bits."""

    layout: Layout
    width: int
    in_order: bool

    @property
    def channels(self) -> int:
        """Channels of a pixel."""
        return shape4(self.layout)[1]

    @property
    def parts(self) -> int:
        """Codes a byte."""
        return self.layout.parts

    @property
    def side_by_side(self) -> bool:
        """Whether the codes of a byte become neighbours in scratch."""
        spread = not self.in_order and self.width * self.parts <= LARGEST_WORD
        return channels_last(self.layout) and (self.parts == 1 or spread)

    @property
    def _cell(self) -> int:
        """Bytes of a pixel whose codes lie side by side."""
        return -(-self.channels // self.parts)

    @property
    def count(self) -> int:
        """Scratch elements that a pixel's channels take, with those of unused codes."""
        return self.parts * self._cell if self.side_by_side else self.channels

    def slot(self, c: Index) -> Index:
        """Where channel ``c`` lies among a pixel's slots."""
        if not self.side_by_side or self.parts == 1:
            return c
        if isinstance(c, int):
            return c % self._cell * self.parts + c // self._cell
        return tir.floormod(c, self._cell) * self.parts + tir.floordiv(c, self._cell)

    def channel(self, slot: Index) -> Index:
        """The channel at a slot; at least the number of channels where there is none."""
        if not self.side_by_side or self.parts == 1:
            return slot
        channel = tir.floordiv(slot, self.parts) + tir.floormod(slot, self.parts) * self._cell
        return tir.Select(slot < self.count, channel, i32(self.count))
