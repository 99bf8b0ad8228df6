"""BitFusion's public model as its authors run it, written anew, each difference to ours a switch.

After ``optimizer.py``, ``accelerator.py`` and ``simulator.py`` of github.com/hsharma35/bitfusion at
the configuration ``bf_e_conf.ini``: a forward convolution without im2col. With all switches off it
computes what ``quatrain.runtime.cost.tiling`` does, loop by loop in plain Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import ceil

ROWS, COLUMNS, PORT, SUM_BITS = 16, 32, 192, 32
ROOM = {"x": 32 * 1024 * 8 // 2, "w": 64 * 1024 * 8 // 2, "y": 16 * 1024 * 8 // 2}
CUT = {"x": "bpc", "w": "ck", "y": "bpk"}


@dataclass(frozen=True)
class Published:
    """A layer of ``kernel`` x ``kernel`` taps from ``channels`` to ``filters``, stride 1.

    The switches are what the authors do. ``whole_tiles``: the last tile of a loop costs as all
    others. ``reads_first``: sums are read from memory also where there are none yet. ``one_pass``:
    16 bits multiply as fast as 8. ``waits_for_ends``: work begins when what stays in the buffers is
    there and ends ahead of the last sums' way out, both rounded up by themselves. ``wide_result``: results are stored as sums, else in ``bits``.
    """

    images: int
    places: int
    channels: int
    filters: int
    kernel: int
    bits: int
    whole_tiles: bool
    reads_first: bool
    one_pass: bool
    waits_for_ends: bool
    wide_result: bool

    def best(self) -> tuple[int, int, int, int]:
        """Cycles, those that wait, and bits of memory read and written, of the fewest cycles."""
        tiles = ((tile, self.passes(tile)) for tile in self.tiles())
        found = (self.cost(*tile, order) for tile in tiles for order in permutations("bpck"))
        (cycles, _), *rest = min(found)
        return cycles, rest[0], rest[1], rest[2]

    def tiles(self) -> Iterator[dict[str, int]]:
        for b in _powers(self.images):
            for p in _powers(self.places):
                for c in _powers(self.channels):
                    for k in _powers(self.filters):
                        tile = {"b": b, "p": p, "c": c, "k": k}
                        sizes = {t: self.numbers(t, tile, "") * self.stored(t) for t in "xwy"}
                        if all(sizes[t] <= ROOM[t] for t in "xwy"):
                            yield tile

    def stored(self, tensor: str) -> int:
        return SUM_BITS if tensor == "y" else self.bits

    def size(self, loop: str) -> int:
        return {"b": self.images, "p": self.places, "c": self.channels, "k": self.filters}[loop]

    def turns(self, loop: str, tile: dict[str, int]) -> int:
        turns = ceil(self.size(loop) / tile[loop])
        return turns**2 if loop == "p" else turns

    def numbers(self, tensor: str, tile: dict[str, int], whole: str) -> int:
        """Numbers of a tensor in a tile, over all turns of the loops in ``whole``."""
        n = self.kernel**2 if tensor == "w" else 1
        for loop in CUT[tensor]:
            covers = loop in whole
            if loop == "p":
                halo = self.kernel - 1 if tensor == "x" else 0
                n *= sum(size + halo for size in self.cut(loop, tile, covers)) ** 2
            else:
                n *= sum(self.cut(loop, tile, covers))
        return n

    def cut(self, loop: str, tile: dict[str, int], covers: bool) -> list[int]:
        full, rest = divmod(self.size(loop), tile[loop])
        if not covers:
            return [tile[loop]]
        last = [] if not rest else [tile[loop] if self.whole_tiles else rest]
        return [tile[loop]] * full + last

    def passes(self, tile: dict[str, int]) -> int:
        rate = max(8 / self.bits, 1.0 if self.one_pass else 0.0) ** 2
        sums = sum(ceil(c / (ROWS * rate)) for c in self.cut("c", tile, True))
        columns = sum(ceil(k / COLUMNS) for k in self.cut("k", tile, True))
        places = sum(self.cut("p", tile, True)) ** 2
        return sum(self.cut("b", tile, True)) * places * self.kernel**2 * columns * sums

    def cost(
        self, tile: dict[str, int], compute: int, order: tuple[str, ...]
    ) -> tuple[tuple[int, int], int, int, int]:
        once, visits, promoted = {}, {}, {}
        for tensor in "xwy":
            whole, kept, visits[tensor] = "", True, 1
            promoted[tensor] = self.numbers(tensor, tile, "") * self.stored(tensor)
            for loop in reversed(order):
                if loop in CUT[tensor]:
                    whole += loop
                    size = self.numbers(tensor, tile, whole) * self.stored(tensor)
                    kept = kept and (size <= ROOM[tensor] or self.turns(loop, tile) == 1)
                    promoted[tensor] = size if kept else promoted[tensor]
                elif not kept:
                    visits[tensor] *= self.turns(loop, tile)
            once[tensor] = self.numbers(tensor, tile, whole)
        again = once["y"] * (visits["y"] - 1) * SUM_BITS
        result = once["y"] * (SUM_BITS if self.wide_result else self.bits)
        read = sum(once[t] * visits[t] * self.bits for t in "xw") + again
        written = again + result
        if self.reads_first:
            read += once["y"] * SUM_BITS
        cycles, waits = self.time(compute, promoted, read + written)
        return (cycles, read + written), waits, read, written

    def time(self, compute: int, promoted: dict[str, int], moved: int) -> tuple[int, int]:
        if self.waits_for_ends:
            first, last = sum(promoted.values()), promoted["y"]
            middle = ceil((moved - first - last) / PORT)
            waits = max(0, middle - compute) + ceil(first / PORT) + ceil(last / PORT)
            return compute + waits, waits
        cycles = max(compute, ceil(moved / PORT))
        return cycles, cycles - compute


def _powers(size: int) -> list[int]:
    return [*(1 << i for i in range(size.bit_length()) if 1 << i < size), size]
