"""Fills the panel of a forward or dX GEMM with the weights, decoded once a call.

by_channels   forward: the weights of an output channel lie in the order of the sum. As many rows as
              a vector has lanes are unpacked, and words of the dot transposed.
by_rows       dX: input channels, which are the lanes, lie together in each weight row. As many rows
              as a word has numbers are unpacked, and interleaved.
one_by_one    all others: depthwise weights, planes, channels whose order is not that of the pixels.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

from tvm import tirx as tir

from ...numbers.integers import unit_of
from ...tir.expr import Code, Expr, Index, i32, load
from .cells import Cells, odd_lines
from .decode import numbers_of
from .panel import Panel
from .slots import Slots
from .spec import GemmSpec
from .transpose import together, transpose
from .unpack import StoredTensor, Unpacker
from .vectors import bits, fill, least, splat, split, store

# Below this many elements starting threads costs more than it saves.
PARALLEL_ELEMENTS = 1 << 15
RUN_TURNS = 16
LINE = 64  # bytes of a cache line
WeightTap = tuple[Index, Index]


def panel_turns(code: Code, panel: Panel, count: int) -> AbstractContextManager[Expr]:
    """Turns over a panel, which threads share where there is enough to do."""
    return code.blocks(count) if panel.elements > PARALLEL_ELEMENTS else code.loop(count)


@dataclass(frozen=True, eq=False)
class PanelWriter:
    """Fills a panel; ``slots`` are those of the pixels that its weights meet."""

    code: Code
    spec: GemmSpec
    panel: Panel
    weights: StoredTensor
    slots: Slots
    row_scale: Expr | None

    def fill(self, to: Expr) -> None:
        """Decode all weights."""
        rows = self.weights.pixels and not self.spec.depthwise
        if rows and self.spec.direction == "input_grad":
            self._by_rows(to)
        elif rows and self._same_order:
            self._by_channels(to)
        else:
            self._one_by_one(to)

    @cached_property
    def _unpacker(self) -> Unpacker:
        """Forward unpacks as the pixels are, dX in the order of the channels."""
        numbers, in_order = numbers_of(self.spec.dot.b), self.slots.in_order
        in_order = in_order or self.spec.direction == "input_grad"
        wide = self.spec.cpu.vector_bytes
        return Unpacker(self.code, self.weights, numbers, wide, in_order)

    @property
    def _same_order(self) -> bool:
        """Whether weights come out of memory in the order of the pixels' slots."""
        own, panel = self._unpacker.slots, self.panel
        if own.channels != panel.length or own.count != max(panel.length, self._summed):
            return False
        return all(own.slot(c) == self.slots.slot(c) for c in range(panel.length))

    @property
    def _summed(self) -> int:
        """Slots that are summed over, those of unused codes too."""
        return self.slots.count if self.panel.length == self.slots.channels else self.panel.length

    def _padded(self, elements: int) -> int:
        """Elements of a row with what vectors read behind it."""
        return odd_lines(elements, LINE * 8 // self._unpacker.numbers.width)

    # forward

    def _by_channels(self, to: Expr) -> None:
        code, panel, lanes = self.code, self.panel, self.spec.cpu.lanes
        wide = panel.width // lanes
        jobs = (panel.groups, panel.blocks, *panel.taps, wide)
        count = panel.groups * panel.blocks * panel.taps[0] * panel.taps[1] * wide
        pitch = self._padded((panel.turns + lanes) * panel.depth)
        with (
            panel_turns(code, panel, count) as job,
            code.workspace(self.spec.dot.b, lanes * pitch) as scratch,
        ):
            g, block, r, s, v = split(job, *jobs)
            first = panel.first_lane(block) + v * lanes
            with code.loop(lanes) as lane:
                k = g * panel.lanes + least(first + lane, panel.lanes - 1)
                self._channel(scratch, lane * pitch, (k, r, s))
            self._transpose(scratch, pitch, to, panel.at(g, block, (r, s), 0) + v * self._vector)

    @property
    def _vector(self) -> int:
        """Elements of a vector of words."""
        return self.spec.cpu.lanes * self.panel.depth

    def _channel(self, scratch: Expr, start: Index, place: tuple[Index, Index, Index]) -> None:
        """Unpack the weights of an output channel and a tap; what is none of them is 0."""
        code, own = self.code, self._unpacker.slots
        self._unpacker.row(scratch, Cells(start, 0), place, 1, 1)
        elements = self.spec.cpu.vector_bytes * 8 // self._unpacker.numbers.width
        rest = self.panel.turns * self.panel.depth - own.count
        fill(code, scratch, start + own.count, rest, 0, elements)
        used = {own.slot(c) for c in range(own.channels)}
        for slot in set(range(own.count)) - used:
            code.store(scratch, start + slot, tir.const(0, self.spec.dot.b))

    def _transpose(self, scratch: Expr, pitch: int, to: Expr, start: Index) -> None:
        """Words of ``lanes`` rows as vectors of the panel, one for each turn."""
        code, panel, lanes = self.code, self.panel, self.spec.cpu.lanes
        whole, rest = divmod(panel.turns, lanes)

        def some(first: Index, turns: int) -> None:
            rows = [
                load(scratch, lane * pitch + first * panel.depth, self._vector)
                for lane in range(lanes)
            ]
            columns = transpose(code, [bits(row, "int32", lanes) for row in rows])
            for i in range(turns):
                vector = bits(columns[i], self.spec.dot.b, self._vector)
                store(code, to, start + (first + i) * panel.turn, vector, self._vector)

        with code.loop(whole) as run:
            some(run * lanes, lanes)
        if rest:
            some(whole * lanes, rest)

    # dX

    def _by_rows(self, to: Expr) -> None:
        code, panel = self.code, self.panel
        some = min(RUN_TURNS, panel.turns)
        runs = -(-panel.turns // some)
        jobs = (panel.groups, *panel.taps, runs)
        count = panel.groups * panel.taps[0] * panel.taps[1] * runs
        pitch = self._padded(max(panel.lanes, panel.width))
        with (
            panel_turns(code, panel, count) as job,
            code.workspace(self.spec.dot.b, some * panel.depth * pitch) as scratch,
        ):
            g, r, s, run = split(job, *jobs)
            first = least(run * some, panel.turns - some)
            with code.loop(some * panel.depth) as i:
                self._row(scratch, i * pitch, (g, first * panel.depth + i), (r, s))
            with (
                code.loop(panel.blocks) as block,
                code.loop(some) as turn,
                code.loop(panel.width // self.spec.cpu.lanes) as v,
            ):
                at = panel.at(g, block, (r, s), first + turn) + v * self._vector
                lane = panel.first_lane(block) + v * self.spec.cpu.lanes
                self._interleave(scratch, turn * (panel.depth * pitch) + lane, pitch, (to, at))

    def _row(self, scratch: Expr, start: Index, which: tuple[Index, Index], tap: WeightTap) -> None:
        """Unpack the row of a slot; 0 where it is none."""
        code, panel, (g, slot) = self.code, self.panel, which
        channel = i32(0) + self.slots.channel(slot)
        elements = self.spec.cpu.vector_bytes * 8 // self._unpacker.numbers.width
        inside = channel < panel.length
        with code.when(inside):
            place = (g * panel.length + channel, *tap)
            self._unpacker.row(scratch, Cells(start, 0), place, 1, 1)
            if self.row_scale is not None:
                self._scale(scratch, start, g * panel.length + channel)
        with code.when(tir.Not(inside)):
            fill(code, scratch, start, panel.lanes, 0, elements)

    def _scale(self, scratch: Expr, start: Index, k: Index) -> None:
        """Multiply a row of f32 by its factor."""
        code, lanes = self.code, self.spec.cpu.lanes
        unit = tir.const(unit_of(self.weights.format), "float32")
        factor = code.fence(load(self.row_scale, k) * unit, "float32", 1)
        with code.loop(-(-self.panel.lanes // lanes)) as i:
            at = start + i * lanes
            product = load(scratch, at, lanes) * splat(factor, "float32", lanes)
            store(code, scratch, at, product, lanes)

    def _interleave(self, scratch: Expr, start: Index, pitch: int, to: tuple[Expr, Index]) -> None:
        """The rows of a word as a vector of the panel."""
        depth, lanes = self.panel.depth, self.spec.cpu.lanes
        rows = [load(scratch, start + b * pitch, lanes) for b in range(depth)]
        vector = together(rows, lanes) if depth > 1 else rows[0]
        store(self.code, *to, vector, self._vector)

    # all others

    def _one_by_one(self, to: Expr) -> None:
        code, panel = self.code, self.panel
        jobs = (panel.groups, panel.blocks, *panel.taps)
        count = panel.groups * panel.blocks * panel.taps[0] * panel.taps[1]
        # Turns of one lane are neighbours in memory; the narrow elements of the integer dots share
        # cache lines anyway.
        some = 1 if panel.depth > 1 else min(RUN_TURNS, panel.turns)
        with panel_turns(code, panel, count) as job, code.loop(-(-panel.turns // some)) as run:
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

    def _weight(self, g: Index, lane: Index, slot: Index, tap: WeightTap) -> Expr:
        """The element for an output channel and a slot; 0 outside."""
        panel = self.panel
        channel = self.slots.channel(slot)
        inside = tir.all(i32(0) + lane < panel.lanes, i32(0) + channel < panel.length)
        lane, channel = least(lane, panel.lanes - 1), least(channel, panel.length - 1)
        numbers = numbers_of(self.spec.dot.b)
        wide = numbers.wide
        if self.spec.direction == "input_grad" and not self.spec.depthwise:
            k = g * panel.length + channel
            number = self.weights.number((k, lane, *tap), wide)
        else:
            k = g * panel.lanes + lane
            number = self.weights.number((k, channel, *tap), wide)
        if self.row_scale is not None:
            unit = tir.const(unit_of(self.weights.format), "float32")
            number = number * (load(self.row_scale, k) * unit)
        return tir.Select(inside, numbers.of_number(number), tir.const(0, self.spec.dot.b))
