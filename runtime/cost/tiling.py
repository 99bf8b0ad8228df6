"""Tiles of a product on an array: which pieces lie in the buffers, in which order they come.

The loops of images, of places, of input and of output channels are cut into tiles of powers of two;
taps are not cut. Of all tiles that fit and all orders the one of the fewest cycles is taken, and of
equal ones the one that moves the least. A tensor stays in its buffer over the inner loops as long
as what it covers fits there; each turn of a loop outside of that which does not cut it reads it
again, and of the sums reads and writes them. So do the authors of BitFusion (its ``optimizer.py``);
what this has otherwise is in docs/cost.md.

    compute  passes of the array; the last tile of a loop is as short as it is
    cycles   the longer of compute and all bits over the port of memory: a kernel's first tile comes
             while the one before it ends
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from itertools import permutations
from math import ceil

import numpy as np
import numpy.typing as npt

from ...compiler.ir.nest import Nest, NestSide
from .accelerator import Accelerator
from .passes_of_array import LoopCut, array_passes, cut

Counts = npt.NDArray[np.int64]


class Extent(StrEnum):
    """A loop that is cut."""

    IMAGES = "images"
    PLACES = "places"
    INPUTS = "inputs"
    OUTPUTS = "outputs"


# The loops that cut a tensor; the others go over all of it again.
CUTS = {
    NestSide.X: (Extent.IMAGES, Extent.PLACES, Extent.INPUTS),
    NestSide.W: (Extent.INPUTS, Extent.OUTPUTS),
    NestSide.Y: (Extent.IMAGES, Extent.PLACES, Extent.OUTPUTS),
}


@dataclass(frozen=True, slots=True)
class Tiling:
    """The tiles taken, sizes by loop, and what comes of them, for one group.

    ``read`` and ``written`` are bits of memory, ``visits`` how often each sum is taken up.
    """

    tile: tuple[tuple[str, int], ...]
    order: tuple[str, ...]
    passes: int
    read: tuple[tuple[NestSide, int], ...]
    written: int
    visits: int

    @property
    def moved(self) -> int:
        """Bits read and written."""
        return sum(bits for _, bits in self.read) + self.written


@dataclass(frozen=True, slots=True)
class StoredBits:
    """Bits of a number of the three tensors in memory, in the order X, W, Y."""

    x: int
    w: int
    y: int

    def of(self, side: NestSide) -> int:
        """Of one tensor."""
        return {NestSide.X: self.x, NestSide.W: self.w, NestSide.Y: self.y}[side]


@lru_cache(maxsize=4096)
def tiling(
    nest: Nest, stored: StoredBits, rate: Fraction, gathered: bool, machine: Accelerator
) -> Tiling | None:
    """The best tiles of one group; None where not even the smallest fit into the buffers."""
    search = _Search(nest, stored, rate, gathered, machine)
    best: tuple[tuple[int, int, int], Tiling] | None = None
    for order in permutations(Extent):
        found = search.best(order)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else best[1]


class _Search:
    """All tiles that fit, side by side, and what each takes in an order of loops."""

    def __init__(
        self, nest: Nest, stored: StoredBits, rate: Fraction, gathered: bool, machine: Accelerator
    ) -> None:
        self.nest, self.machine = nest, machine
        self.bits = {s: machine.sum_bits if s is nest.makes else stored.of(s) for s in NestSide}
        self.result_bits = stored.of(nest.makes)
        self.room = dict(zip(nest.reads, (machine.data.bits, machine.weights.bits), strict=True))
        self.room[nest.makes] = machine.sums.bits
        grids = np.meshgrid(*(_candidates(n) for n in self._sizes()), indexing="ij")
        tiles = {e: g.ravel() for e, g in zip(Extent, grids, strict=True)}
        fits = np.ones(len(tiles[Extent.IMAGES]), bool)
        for side in NestSide:
            fits &= self._covered(tiles, side, ()) * self.bits[side] <= self.room[side]
        self.tiles = {e: t[fits] for e, t in tiles.items()}
        self.turns = {e: self._turns(e) for e in Extent}
        self.passes = array_passes(nest, self._cuts(), rate, gathered, machine.array)

    def _sizes(self) -> tuple[int, int, int, int]:
        n = self.nest
        return n.images, max(n.places), n.inputs, n.outputs

    def _turns(self, extent: Extent) -> Counts:
        """Tiles of a loop; those of places cut both dimensions."""
        tile = self.tiles[extent]
        if extent is Extent.PLACES:
            rows, columns = (-(-n // np.minimum(tile, n)) for n in self.nest.places)
            made: Counts = rows * columns
            return made
        size = dict(zip(Extent, self._sizes(), strict=True))[extent]
        return -(-size // tile)

    def _cuts(self) -> dict[str, LoopCut]:
        n, t = self.nest, self.tiles
        places = t[Extent.PLACES]
        return {
            "images": cut(n.images, t[Extent.IMAGES]),
            "rows": cut(n.places[0], places),
            "columns": cut(n.places[1], places),
            "inputs": cut(n.inputs, t[Extent.INPUTS]),
            "outputs": cut(n.outputs, t[Extent.OUTPUTS]),
        }

    def _covered(
        self, tiles: Mapping[Extent, Counts], side: NestSide, whole: Sequence[Extent]
    ) -> Counts:
        """Numbers of a tensor within a tile that has these loops whole, halos of all its tiles."""
        n = self.nest
        sizes = dict(zip(Extent, self._sizes(), strict=True))
        count = np.ones(len(tiles[Extent.IMAGES]), np.int64)
        for extent in CUTS[side]:
            if extent is Extent.PLACES:
                count *= self._plane(tiles[extent], side, extent in whole)
            else:
                count *= sizes[extent] if extent in whole else tiles[extent]
        covered: Counts = count * n.taps if side is NestSide.W else count
        return covered

    def _plane(self, tile: Counts, side: NestSide, whole: bool) -> Counts:
        """Places of X or Y in a tile or, halos counted again, in all tiles."""
        made = np.ones(len(tile), np.int64)
        for axis in (0, 1):
            made *= self._axis(axis, tile, side, whole)
        return made

    def _axis(self, axis: int, tile: Counts, side: NestSide, whole: bool) -> Counts:
        n = self.nest
        size = n.places[axis]
        first = np.minimum(tile, size)
        if side is NestSide.Y:
            return np.full(len(tile), size) if whole else first
        plane = n.plane[axis]
        if n.makes is NestSide.X:  # what several tiles add to is not counted
            return np.full(len(tile), plane) if whole else self._made(first, axis)
        reach = (n.kernel[axis] - 1) * n.dilation[axis] + 1
        full, rest = size // first, size % first
        halo = np.minimum((first - 1) * n.stride[axis] + reach, plane)
        if not whole:
            one: Counts = halo
            return one
        last = np.where(rest > 0, np.minimum((rest - 1) * n.stride[axis] + reach, plane), 0)
        total: Counts = full * halo + last
        return total

    def _made(self, first: Counts, axis: int) -> Counts:
        made: Counts = np.minimum(first * self.nest.stride[axis], self.nest.plane[axis])
        return made

    def best(self, order: tuple[Extent, ...]) -> tuple[tuple[int, int, int], Tiling] | None:
        """What the tiles with the fewest cycles in this order come to."""
        if not len(self.passes):
            return None
        n = self.nest
        visits, totals = {}, {}
        for side in NestSide:
            visits[side], totals[side] = self._visits(side, order)
        read = {s: totals[s] * visits[s] * self.bits[s] for s in n.reads}
        again = totals[n.makes] * (visits[n.makes] - 1) * self.machine.sum_bits
        read[n.makes] = again
        written = again + totals[n.makes] * self.result_bits
        moved = sum(read.values()) + written
        cycles = self._cycles(moved)
        i = int(np.lexsort((self.passes, moved, cycles))[0])
        made = Tiling(
            tuple((str(e), int(self.tiles[e][i])) for e in Extent),
            tuple(map(str, order)),
            int(self.passes[i]),
            tuple((s, int(read[s][i])) for s in NestSide),
            int(written[i]),
            int(visits[n.makes][i]),
        )
        return (int(cycles[i]), int(moved[i]), made.passes), made

    def _visits(self, side: NestSide, order: tuple[Extent, ...]) -> tuple[Counts, Counts]:
        """How often a tensor comes, and its numbers of once: from the innermost loop outwards."""
        kept = np.ones(len(self.passes), bool)
        visits = np.ones(len(self.passes), np.int64)
        whole: list[Extent] = []
        for extent in reversed(order):
            if extent in CUTS[side]:
                whole.append(extent)
                fits = self._covered(self.tiles, side, whole) * self.bits[side] <= self.room[side]
                kept &= fits | (self.turns[extent] == 1)
            else:
                visits *= np.where(kept, 1, self.turns[extent])
        return visits, self._covered(self.tiles, side, whole)

    def _cycles(self, moved: Counts) -> Counts:
        """Of all groups."""
        array, port = self.machine.array, self.machine.memory.bits_per_cycle
        groups = self.nest.groups
        compute = -(-groups * self.passes // array.arrays)
        cycles: Counts = np.maximum(compute, np.ceil(groups * moved / port)).astype(np.int64)
        return cycles


def cycles_of(nest: Nest, found: Tiling, machine: Accelerator) -> tuple[int, int]:
    """Cycles of all groups, and how many of them the array waits."""
    port = machine.memory.bits_per_cycle
    compute = -(-nest.groups * found.passes // machine.array.arrays)
    bound = ceil(nest.groups * found.moved / port)
    cycles = max(compute, bound)
    return cycles, cycles - compute


def _candidates(size: int) -> Counts:
    """Powers of two below ``size``, and that."""
    powers = [1 << i for i in range(size.bit_length()) if 1 << i < size]
    return np.array([*powers, size], np.int64)
