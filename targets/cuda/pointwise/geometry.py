"""How blocks and threads lie over the rows and channels of a pointwise kernel.

Threads *across* a row own a column each, ``lanes`` channels in each part of a byte that is made:
of 16 channels as uint4 a thread of one lane makes channels j and j + 8, and their byte. Threads
*down* take other rows. Where something is reduced to a number a channel, a thread takes one stripe
of rows of its column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

from ...tir.pointwise.space import STRIPE, Node, PointwiseSpec

THREADS = 256
STRIPED = 64  # where a thread takes a stripe: few threads, so small blocks for all multiprocessors
TURNS = 4  # rows a thread, where nothing is reduced
MOST_BLOCKS = 4096


@dataclass(frozen=True)
class PointwiseGrid:
    """Of a spec alone."""

    spec: PointwiseSpec

    @cached_property
    def sums(self) -> int:
        """Numbers that each stripe leaves for every channel."""
        return sum(_sums(self.spec, node) for node in self.spec.nodes)

    @cached_property
    def numbers(self) -> int:
        """Numbers that each block leaves for all elements."""
        made = {
            "amax": lambda n: n.results[0],
            "amax_first": lambda n: n.results[0],
            "pact_grad": lambda n: n.results[1],
            "pact_plus_grad": lambda n: n.results[1],
        }
        nodes = (n for n in self.spec.nodes if n.kind in made)
        return sum(made[n.kind](n) in self.spec.outputs for n in nodes)

    @cached_property
    def parts(self) -> int:
        """Codes a byte: one that is made has one thread, one that is read one for each code."""
        made = [self.spec.layout(i) for i in self.spec.outputs if i in self.spec.whole]
        return max((x.parts for x in made), default=1)

    @cached_property
    def padded(self) -> bool:
        """Whether the last byte of a row has room for more codes than there are."""
        return self.spec.space.channels % self.parts != 0

    @property
    def rowed(self) -> bool:
        """Whether a block keeps something of each column in shared memory: codes, or of norms."""
        return self.padded or any(node.kind.startswith("batch_norm") for node in self.spec.nodes)

    @cached_property
    def cell(self) -> int:
        """Channels of a row in each part."""
        channels = self.spec.space.channels
        return channels if self.padded else channels // self.parts

    @cached_property
    def lanes(self) -> int:
        """Channels of a vector: all have their codes at one place of their bytes."""
        packed = [x for i in self.spec.whole if (x := self.spec.layout(i)).parts > 1]
        if self.sums or any(x.channels % x.parts for x in packed):
            return 1
        size = gcd(self.cell, *(x.cell for x in packed))
        return min(self.spec.lanes, size & -size)

    @cached_property
    def columns(self) -> int:
        """Threads that a row takes."""
        return self.cell // self.lanes

    @cached_property
    def threads(self) -> int:
        """Of a block."""
        return STRIPED if self.sums else THREADS

    @cached_property
    def across(self) -> int:
        """Threads of a block along a row."""
        return min(self.columns, self.threads)

    @cached_property
    def down(self) -> int:
        """Rows, or stripes, that a block takes at a time."""
        return self.threads // self.across

    @cached_property
    def own(self) -> int:
        """Points of a thread in a row. Codes of a padded row meet in memory of its block."""
        return -(-self.columns // self.across) if self.padded else self.parts

    @cached_property
    def stripes(self) -> int:
        """Stripes of all rows."""
        return -(-self.spec.space.rows // STRIPE)

    @cached_property
    def tall(self) -> int:
        """Blocks one below the other."""
        lines = self.stripes if self.sums else -(-self.spec.space.rows // TURNS)
        blocks = -(-lines // self.down)
        return blocks if self.sums else min(blocks, MOST_BLOCKS)

    @cached_property
    def wide(self) -> int:
        """Blocks side by side."""
        return 1 if self.padded else -(-self.columns // self.across)

    @property
    def scratch(self) -> tuple[tuple[str, int], ...]:
        """Numbers of each stripe for every channel, numbers of each block."""
        channels = self.sums * self.stripes * self.spec.space.channels
        sizes = (("float32", channels), ("float64", self.numbers * self.tall * self.wide))
        return tuple((dtype, size) for dtype, size in sizes if size)


def _sums(spec: PointwiseSpec, node: Node) -> int:
    if node.kind == "batch_stats":
        return 3
    if node.kind == "batch_norm_grad_stats":
        return sum(r in spec.outputs for r in node.results)
    return int(node.kind == "sum_channels")
