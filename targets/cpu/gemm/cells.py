"""Cells: where the slots of unpacked pixels lie in scratch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx as tir

from ...tir.expr import Index


def odd_lines(elements: int, line: int) -> int:
    """``elements`` filled up to an odd number of lines, so that rows spread over the cache."""
    return (-(-elements // line) | 1) * line


@dataclass(frozen=True, slots=True)
class Cells:
    """Pixels ``pitch`` elements apart, the first at ``start``.

    All slots of a pixel lie together; or, where ``run`` is not 0, so many do, and the next so many
    ``apart`` elements further: a loop over pixels that reads one run reads memory in order.
    """

    start: Index
    pitch: int
    run: int = 0
    apart: int = 0

    def at(self, pixel: Index, slot: Index) -> Index:
        """The element of a slot; vectors may begin there that end within a run."""
        first = self.start + pixel * self.pitch
        if not self.run:
            return first + slot
        if isinstance(slot, int):
            return first + slot // self.run * self.apart + slot % self.run
        return first + tir.floordiv(slot, self.run) * self.apart + tir.floormod(slot, self.run)

    def behind(self, pixels: Index) -> Cells:
        """Those that begin so many pixels later."""
        return replace(self, start=self.start + pixels * self.pitch)

    def full(self, slots: int) -> bool:
        """Whether ``slots`` a pixel leave no gap, so that pixels are one row."""
        return not self.run and self.pitch == slots
