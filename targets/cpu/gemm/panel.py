"""Panel: the weights of a forward or dX GEMM, decoded once a call into the order of the dots.

panel[group][block of vectors][tap row][tap column][block of channels][lane][channel in block]
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...numbers.integers import unit_of
from ...tir.expr import Code, Expr, Index, i32, load
from .decode import numbers_of
from .units import Dot
from .unpack import StoredTensor, Unpacker
from .vectors import cast, least, split

# Below this many elements starting threads costs more than it saves.
PARALLEL_ELEMENTS = 1 << 15
RUN_TURNS = 16


@dataclass(frozen=True, eq=False, slots=True)
class Panel:
    """Shape of a panel, and how to fill it.

    ``lanes`` output channels a group in ``blocks`` overlapping blocks of ``width`` lanes;
    ``length`` summed channels a group in ``turns`` blocks of the dot.
    """

    code: Code
    weights: StoredTensor
    dot: Dot
    groups: int
    lanes: int
    length: int
    width: int
    turns: int
    transposed: bool
    unpacker: Unpacker
    row_scale: Expr | None

    @property
    def taps(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        _, _, r, s = self.weights.shape
        return r, s

    @property
    def blocks(self) -> int:
        """Blocks of lanes a group."""
        return -(-self.lanes // self.width)

    @property
    def turn(self) -> int:
        """Elements of one turn of the inner loop."""
        return self.width * self.dot.block

    @property
    def elements(self) -> int:
        """Elements in all."""
        r, s = self.taps
        return self.groups * self.blocks * r * s * self.turns * self.turn

    def first_lane(self, block: Index) -> Index:
        """The first output channel of a block; the last blocks overlap."""
        return least(block * self.width, max(0, self.lanes - self.width))

    def at(self, group: Index, block: Index, r: Index, s: Index, turn: Index) -> Index:
        """Where a turn's elements begin."""
        rows, columns = self.taps
        place = ((group * self.blocks + block) * rows + r) * columns + s
        return (place * self.turns + turn) * self.turn

    def fill(self, panel: Expr) -> None:
        """Decode all weights."""
        code, (r, s) = self.code, self.taps
        jobs = (self.groups, self.blocks, r, s)
        count = self.groups * self.blocks * r * s
        outer = code.blocks(count) if self.elements > PARALLEL_ELEMENTS else code.loop(count)
        # Turns of one lane are neighbours in memory unless the weights are read transposed;
        # the narrow elements of the integer dots share cache lines anyway.
        alone = self.transposed or self.dot.block > 1
        some = 1 if alone else min(RUN_TURNS, self.turns)
        with outer as job, code.loop(-(-self.turns // some)) as run:
            g, block, tap_r, tap_s = split(job, *jobs)
            first = least(run * some, self.turns - some)
            with (
                code.loop(self.width) as lane,
                code.loop(some) as i,
                code.loop(self.dot.block) as b,
            ):
                slot = (first + i) * self.dot.block + b
                value = self._weight(g, self.first_lane(block) + lane, slot, (tap_r, tap_s))
                to = self.at(g, block, tap_r, tap_s, first + i) + lane * self.dot.block + b
                code.store(panel, to, value)

    def _weight(self, g: Index, lane: Index, slot: Index, tap: tuple[Index, Index]) -> Expr:
        """The element for an output channel and a slot; 0 outside."""
        channel = self.unpacker.channel(slot)
        inside = tir.all(i32(0) + lane < self.lanes, i32(0) + channel < self.length)
        lane, channel = least(lane, self.lanes - 1), least(channel, self.length - 1)
        numbers = numbers_of(self.dot.b)
        wide = numbers.wide
        if self.transposed:
            k = g * self.length + channel
            number = self.weights.number((k, lane, *tap), wide)
        else:
            k = g * self.lanes + lane
            number = self.weights.number((k, channel, *tap), wide)
        if self.row_scale is not None:
            unit = tir.const(unit_of(self.weights.format), "float32")
            number = number * (load(self.row_scale, k) * unit)
        return tir.Select(inside, numbers.of_number(number), tir.const(0, self.dot.b))

    def zero_sums(
        self, panel: Expr, to: Expr, start: int, taps: tuple[list[int], list[int]]
    ) -> None:
        """For sums over ``taps``: minus ``zero`` times the weights' sum, one for each lane."""
        code = self.code
        with code.loop(self.groups * self.blocks) as job, code.loop(self.width) as lane:
            g, block = split(job, self.groups, self.blocks)
            total = code.local("int32", 1)
            code.store(total, 0, i32(0))
            for r in taps[0]:
                for s in taps[1]:
                    with code.loop(self.turns) as turn, code.loop(self.dot.block) as b:
                        at = self.at(g, block, r, s, turn) + lane * self.dot.block + b
                        code.store(total, 0, load(total, 0) + cast(load(panel, at), "int32"))
            code.store(to, start + job * self.width + lane, load(total, 0) * -self.dot.zero)
