"""Panel: the weights of a forward or dX GEMM, decoded once a call into the order of the dots.

panel[group][block of vectors][tap row][tap column][block of channels][lane][channel in block]
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...numbers.integers import unit_of
from ...tir.expr import Code, Expr, Index, i32, load
from .decode import numbers_of
from .slots import Slots
from .spec import GemmSpec
from .unpack import StoredTensor
from .vectors import least, split

# Below this many elements starting threads costs more than it saves.
PARALLEL_ELEMENTS = 1 << 15
RUN_TURNS = 16


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


@dataclass(frozen=True, eq=False, slots=True)
class PanelWriter:
    """Fills a panel; ``slots`` are those of the pixels that its weights meet."""

    code: Code
    spec: GemmSpec
    panel: Panel
    weights: StoredTensor
    slots: Slots
    row_scale: Expr | None

    @property
    def _transposed(self) -> bool:
        """Whether the weights' own order has the summed channels first."""
        return self.spec.direction == "input_grad" and not self.spec.depthwise

    def fill(self, to: Expr) -> None:
        """Decode all weights."""
        code, panel, (r, s) = self.code, self.panel, self.panel.taps
        jobs = (panel.groups, panel.blocks, r, s)
        count = panel.groups * panel.blocks * r * s
        outer = code.blocks(count) if panel.elements > PARALLEL_ELEMENTS else code.loop(count)
        # Turns of one lane are neighbours in memory unless the weights are read transposed;
        # the narrow elements of the integer dots share cache lines anyway.
        alone = self._transposed or panel.depth > 1
        some = 1 if alone else min(RUN_TURNS, panel.turns)
        with outer as job, code.loop(-(-panel.turns // some)) as run:
            g, block, tap_r, tap_s = split(job, *jobs)
            first = least(run * some, panel.turns - some)
            with (
                code.loop(panel.width) as lane,
                code.loop(some) as i,
                code.loop(panel.depth) as b,
            ):
                slot = (first + i) * panel.depth + b
                value = self._weight(g, panel.first_lane(block) + lane, slot, (tap_r, tap_s))
                start = panel.at(g, block, (tap_r, tap_s), first + i)
                code.store(to, start + lane * panel.depth + b, value)

    def _weight(self, g: Index, lane: Index, slot: Index, tap: tuple[Index, Index]) -> Expr:
        """The element for an output channel and a slot; 0 outside."""
        panel = self.panel
        channel = self.slots.channel(slot)
        inside = tir.all(i32(0) + lane < panel.lanes, i32(0) + channel < panel.length)
        lane, channel = least(lane, panel.lanes - 1), least(channel, panel.length - 1)
        numbers = numbers_of(self.spec.dot.b)
        wide = numbers.wide
        if self._transposed:
            k = g * panel.length + channel
            number = self.weights.number((k, lane, *tap), wide)
        else:
            k = g * panel.lanes + lane
            number = self.weights.number((k, channel, *tap), wide)
        if self.row_scale is not None:
            unit = tir.const(unit_of(self.weights.format), "float32")
            number = number * (load(self.row_scale, k) * unit)
        return tir.Select(inside, numbers.of_number(number), tir.const(0, self.spec.dot.b))
