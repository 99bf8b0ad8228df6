"""Fills the panel of an AMX kernel: from weights as they are stored to B tiles.

In a forward GEMM the weights of an output channel lie in the order of the sum, and tiles are
transposed. In dX sixteen input channels of a weight row are neighbours, and rows are gathered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, i32, load
from ..gemm.cells import Cells, odd_lines
from ..gemm.decode import Numbers
from ..gemm.slots import Slots
from ..gemm.spec import GemmSpec
from ..gemm.transpose import together, transpose
from ..gemm.unpack import StoredTensor, Unpacker, part_codes
from ..gemm.vectors import bits, cast, fill, least, splat, split, store
from .panel import AmxPanel, Runs
from .planes import planes
from .tiles import COLUMNS, LINE, ROW_BYTES, ROWS


@dataclass(frozen=True, eq=False)
class AmxPanelWriter:
    """Fills a panel; ``slots`` are those of the pixels that its weights meet."""

    code: Code
    spec: GemmSpec
    panel: AmxPanel
    weights: StoredTensor
    slots: Slots

    @cached_property
    def numbers(self) -> Numbers:
        """How weights lie in tiles."""
        return planes(self.weights.format, self.spec.dot.b)[0]

    @property
    def block(self) -> int:
        """Elements of a word."""
        return 32 // self.numbers.width

    def fill(self, to: Expr) -> None:
        """Decode all weights."""
        gathers = self.spec.direction == "input_grad"
        size = self._rows * COLUMNS + COLUMNS if gathers else self._lane_pitch * ROWS
        with (
            self.code.blocks(self.panel.tiles) as tile,
            self.code.workspace(self.numbers.dtype, size + LINE) as scratch,
        ):
            if gathers:
                self._collect(scratch, tile)
                for phase in range(len(self.panel.runs)):
                    self._gather(scratch, to, tile, phase)
            else:
                self._unpack(scratch, tile)
                self._transpose(scratch, to, tile)

    # forward: an output channel's weights lie in the order of the sum, so lanes are transposed

    @cached_property
    def _unpacker(self) -> Unpacker:
        wide, in_order = self.spec.cpu.vector_bytes, self.slots.in_order
        return Unpacker(self.code, self.weights, self.numbers, wide, in_order)

    @property
    def _run_pitch(self) -> int:
        return self.panel.runs[0].chunks * self.panel.runs[0].depth

    @property
    def _lane_pitch(self) -> int:
        """Elements a lane; an odd number of cache lines, so that lanes spread over the cache."""
        line = LINE * 8 // self.numbers.width
        rows, runs = self.panel.runs[0].count
        return odd_lines(rows * runs * self._run_pitch, line)

    def _unpack(self, scratch: Expr, tile: Index) -> None:
        code, runs = self.code, self.panel.runs[0]
        _, _, _, columns = self.weights.shape
        with (
            code.loop(ROWS) as lane,
            code.loop(runs.count[0]) as i,
            code.loop(runs.count[1]) as j,
        ):
            k = least(self.panel.first_lane(tile) + lane, self.panel.lanes - 1)
            start = lane * self._lane_pitch + (i * runs.count[1] + j) * self._run_pitch
            whole = runs.pitch == self.slots.count
            rest = runs.elements if whole else 0
            lanes = LINE * 8 // self.numbers.width
            fill(code, scratch, start + rest, self._run_pitch - rest, 0, lanes)
            first = 0 if runs.merged else j
            n = columns if runs.merged else 1
            self._unpacker.row(scratch, Cells(start, runs.pitch), (k, i, first), n, 1)

    def _transpose(self, scratch: Expr, to: Expr, tile: Index) -> None:
        code, runs = self.code, self.panel.runs[0]
        elements = ROW_BYTES * 8 // self.numbers.width
        with code.loop(runs.turns) as turn:
            run, chunk = split(turn, runs.turns // runs.chunks, runs.chunks)
            start = run * self._run_pitch + chunk * runs.depth
            rows = [load(scratch, lane * self._lane_pitch + start, elements) for lane in range(16)]
            words = transpose(code, [bits(row, "int32", COLUMNS) for row in rows])
            start = self.panel.at(0, tile, turn)
            for i in range(runs.depth // self.block):
                vector = bits(words[i], self.numbers.dtype, COLUMNS * self.block)
                place = start + i * COLUMNS * self.block
                store(code, to, place, vector, COLUMNS * self.block)

    # dX: sixteen input channels of each weight row are neighbours, so rows are gathered

    @property
    def _rows(self) -> int:
        """Weights of one input channel."""
        k, _, r, s = self.weights.shape
        return k * r * s

    @property
    def _aligned(self) -> bool:
        """Whether the sixteen channels of a tile are neighbours in memory, in one part of bytes."""
        whole = not self.panel.lanes % COLUMNS and not self.weights.cell % COLUMNS
        return self.weights.pixels and whole

    def _collect(self, scratch: Expr, tile: Index) -> None:
        """Scratch[weight row][16 input channels of the tile], and a row of zeros."""
        code, w = self.code, self.weights
        store(code, scratch, self._rows * COLUMNS, splat(0, self.numbers.dtype, COLUMNS), COLUMNS)
        lane = self.panel.first_lane(tile)
        with code.loop(self._rows) as row:
            if self._aligned:
                value = self._neighbours(row * w.cell, lane)
                store(code, scratch, row * COLUMNS, value, COLUMNS)
            else:
                self._one_by_one(scratch, row, lane)

    def _one_by_one(self, scratch: Expr, row: Expr, lane: Index) -> None:
        w = self.weights
        k, i, j = split(row, w.shape[0], *w.shape[2:])
        with self.code.loop(COLUMNS) as c:
            channel = least(lane + c, self.panel.lanes - 1)
            number = w.number((k, channel, i, j), self.numbers.wide)
            self.code.store(scratch, row * COLUMNS + c, self.numbers.of_number(number))

    def _neighbours(self, start: Index, lane: Index) -> Expr:
        f, cell = self.weights.format, self.weights.cell
        stored = load(self.weights.buffer, start + tir.floormod(lane, cell), COLUMNS)
        if not f.is_coded:
            return self.numbers.of_carrier(f, stored, COLUMNS)
        if self.weights.layout.parts > 1:
            shift = cast(tir.floordiv(i32(0) + lane, cell) * f.storage_bits, "uint8")
            stored = tir.shift_right(stored, splat(shift, "uint8", COLUMNS))
        codes = part_codes(stored, f, 0, self.numbers.width, COLUMNS)
        return self.numbers.of_codes(f, codes, COLUMNS)

    def _gather(self, scratch: Expr, to: Expr, tile: Index, phase: int) -> None:
        code, runs, block = self.code, self.panel.runs[phase], self.block
        if not runs.turns:
            return
        words = runs.depth // block
        with code.loop(runs.turns) as turn, code.loop(words) as word:
            i, j, chunk = split(turn, *runs.count, runs.chunks)
            element = chunk * runs.depth + word * block
            rows = [
                load(scratch, self._row(runs, i, j, element + b) * COLUMNS, COLUMNS)
                for b in range(block)
            ]
            place = self.panel.at(phase, tile, turn) + word * (COLUMNS * block)
            store(code, to, place, together(rows, COLUMNS), COLUMNS * block)

    def _row(self, runs: Runs, i: Index, j: Index, element: Index) -> Expr:
        """The weight row that an element of a run meets; the row of zeros where there is none."""
        _, _, r, s = self.weights.shape
        pixel, slot = tir.floordiv(element, runs.pitch), tir.floormod(element, runs.pitch)
        k = self.slots.channel(slot)
        tap_row = runs.phase.rows.tap(i)
        tap_column = runs.phase.columns.tap(runs.tap(pixel, j))
        inside = tir.all(pixel < runs.pixels, i32(0) + k < self.slots.channels)
        row = tir.Select(inside, (k * r + tap_row) * s + tap_column, i32(self._rows))
        return self.code.let(row, "int32", "row")
