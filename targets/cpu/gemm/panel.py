"""Panel: the weights of a forward or dX GEMM, decoded once a call into the order of the dots.

panel[group][block of vectors][tap row][tap column][block of channels][lane][channel in block]
"""

from __future__ import annotations

from dataclasses import dataclass

from ...tir.expr import Index
from .vectors import least


@dataclass(frozen=True, slots=True)
class Panel:
    """Shape of a panel.

    ``lanes`` output channels a group in ``blocks`` overlapping blocks of ``width`` lanes;
    ``length`` summed channels a group in ``turns`` blocks of the dot, of ``depth`` channels.
    """

    groups: int
    lanes: int
    length: int
    width: int
    turns: int
    depth: int
    taps: tuple[int, int]

    @property
    def blocks(self) -> int:
        """Blocks of lanes a group."""
        return -(-self.lanes // self.width)

    @property
    def turn(self) -> int:
        """Elements of one turn of the inner loop."""
        return self.width * self.depth

    @property
    def elements(self) -> int:
        """Elements in all."""
        r, s = self.taps
        return self.groups * self.blocks * r * s * self.turns * self.turn

    def first_lane(self, block: Index) -> Index:
        """The first output channel of a block; the last blocks overlap."""
        return least(block * self.width, max(0, self.lanes - self.width))

    def at(self, group: Index, block: Index, tap: tuple[Index, Index], turn: Index) -> Index:
        """Where a turn's elements begin."""
        rows, columns = self.taps
        place = ((group * self.blocks + block) * rows + tap[0]) * columns + tap[1]
        return (place * self.turns + turn) * self.turn
