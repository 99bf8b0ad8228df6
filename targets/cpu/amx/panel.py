"""Panel of the AMX kernels: the weights of a forward or dX GEMM as B tiles, made once a call.

panel[phase][tile of 16 output channels][tap row][run][chunk][depth / block][16 channels][block]

A *run* is what one A row reads at once: the taps of a row where they are neighbours in scratch, or
one tap. It is cut into ``chunks`` of ``depth`` elements, at most the 64 bytes of a tile's row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, i32, load
from ..gemm.decode import Numbers
from ..gemm.geometry import Phase
from ..gemm.slots import Slots
from ..gemm.unpack import StoredTensor, Unpacker, part_codes
from ..gemm.vectors import bits, cast, fill, least, splat, split, store
from .tiles import COLUMNS, LINE, ROW_BYTES, ROWS, together, transpose


@dataclass(frozen=True, slots=True)
class Runs:
    """How the sum over the taps of one phase is cut; ``pitch`` elements a scratch pixel."""

    phase: Phase
    pitch: int
    element_bytes: int

    @property
    def merged(self) -> bool:
        """Whether the taps of a row are neighbours in scratch."""
        return self.phase.columns.taps > 1 and abs(self.phase.columns.slope) == 1

    @property
    def pixels(self) -> int:
        """Scratch pixels of a run."""
        return self.phase.columns.taps if self.merged else 1

    @property
    def count(self) -> tuple[int, int]:
        """Tap rows, and runs in each."""
        return self.phase.rows.taps, 1 if self.merged else self.phase.columns.taps

    @property
    def elements(self) -> int:
        """Elements of a run."""
        return self.pixels * self.pitch

    @property
    def chunks(self) -> int:
        """Tiles along a run."""
        return -(-self.elements * self.element_bytes // ROW_BYTES)

    @property
    def depth(self) -> int:
        """Elements of a chunk, whole words of four bytes."""
        block = 4 // self.element_bytes
        return -(-self.elements // (self.chunks * block)) * block

    @property
    def turns(self) -> int:
        """Products of tiles in one sum."""
        return self.count[0] * self.count[1] * self.chunks

    def tap(self, place: Index, run: Index) -> Index:
        """Number of the column tap at a pixel of a run."""
        if not self.merged:
            return run
        return place if self.phase.columns.slope > 0 else self.pixels - 1 - place


@dataclass(frozen=True, eq=False)
class AmxPanel:
    """Shape of a panel, and how to fill it; ``lanes`` output channels, ``length`` summed ones."""

    code: Code
    weights: StoredTensor
    numbers: Numbers
    lanes: int
    length: int
    transposed: bool
    slots: Slots
    phases: tuple[Runs, ...]
    vector_bytes: int

    @property
    def tiles(self) -> int:
        """Tiles of output channels; the last ones overlap."""
        return -(-self.lanes // COLUMNS)

    @property
    def block(self) -> int:
        """Elements of a word."""
        return 32 // self.numbers.width

    def tile_elements(self, phase: int) -> int:
        """Elements of one B tile."""
        return self.phases[phase].depth * COLUMNS

    def first(self, phase: int) -> int:
        """Where a phase begins."""
        return sum(
            self.tiles * runs.turns * self.tile_elements(p)
            for p, runs in enumerate(self.phases[:phase])
        )

    @property
    def elements(self) -> int:
        """Elements in all."""
        return self.first(len(self.phases))

    def first_lane(self, tile: Index) -> Index:
        """The first output channel of a tile."""
        return least(tile * COLUMNS, max(0, self.lanes - COLUMNS))

    def fill(self, panel: Expr) -> None:
        """Decode all weights."""
        size = self._lane_pitch * ROWS if not self.transposed else self._rows * COLUMNS + COLUMNS
        with (
            self.code.blocks(self.tiles) as tile,
            self.code.workspace(self.numbers.dtype, size + LINE) as scratch,
        ):
            if self.transposed:
                self._collect(scratch, tile)
                for phase in range(len(self.phases)):
                    self._gather(scratch, panel, tile, phase)
            else:
                self._unpack(scratch, tile)
                self._transpose(scratch, panel, tile)

    # forward: an output channel's weights lie in the order of the sum, so lanes are transposed

    @cached_property
    def _unpacker(self) -> Unpacker:
        in_order = self.slots.in_order
        return Unpacker(self.code, self.weights, self.numbers, self.vector_bytes, in_order)

    @property
    def _run_pitch(self) -> int:
        return self.phases[0].chunks * self.phases[0].depth

    @property
    def _lane_pitch(self) -> int:
        """Elements a lane; an odd number of cache lines, so that lanes spread over the cache."""
        line = LINE * 8 // self.numbers.width
        rows, runs = self.phases[0].count
        return (-(-rows * runs * self._run_pitch // line) | 1) * line

    def _unpack(self, scratch: Expr, tile: Index) -> None:
        code, runs = self.code, self.phases[0]
        _, _, _, columns = self.weights.shape
        with (
            code.loop(ROWS) as lane,
            code.loop(runs.count[0]) as i,
            code.loop(runs.count[1]) as j,
        ):
            k = least(self.first_lane(tile) + lane, self.lanes - 1)
            start = lane * self._lane_pitch + (i * runs.count[1] + j) * self._run_pitch
            spare = self._run_pitch - runs.elements
            fill(code, scratch, start + runs.elements, spare, 0, LINE * 8 // self.numbers.width)
            first = 0 if runs.merged else j
            n = columns if runs.merged else 1
            self._unpacker.row(scratch, start, runs.pitch, (k, i, first), n, 1)

    def _transpose(self, scratch: Expr, panel: Expr, tile: Index) -> None:
        code, runs = self.code, self.phases[0]
        elements = ROW_BYTES * 8 // self.numbers.width
        with code.loop(runs.turns) as turn:
            run, chunk = split(turn, runs.turns // runs.chunks, runs.chunks)
            start = run * self._run_pitch + chunk * runs.depth
            rows = [load(scratch, lane * self._lane_pitch + start, elements) for lane in range(16)]
            words = transpose(code, [bits(row, "int32", COLUMNS) for row in rows])
            to = (tile * runs.turns + turn) * self.tile_elements(0)
            for i in range(runs.depth // self.block):
                vector = bits(words[i], self.numbers.dtype, COLUMNS * self.block)
                place = to + i * COLUMNS * self.block
                store(code, panel, place, vector, COLUMNS * self.block)

    # dX: sixteen input channels of each weight row are neighbours, so rows are gathered

    @property
    def _rows(self) -> int:
        """Weights of one input channel."""
        k, _, r, s = self.weights.shape
        return k * r * s

    @property
    def _aligned(self) -> bool:
        """Whether the sixteen channels of a tile are neighbours in memory, in one part of bytes."""
        return self.weights.pixels and not self.lanes % COLUMNS and not self.weights.cell % COLUMNS

    def _collect(self, scratch: Expr, tile: Index) -> None:
        """Scratch[weight row][16 input channels of the tile], and a row of zeros."""
        code, w = self.code, self.weights
        store(code, scratch, self._rows * COLUMNS, splat(0, self.numbers.dtype, COLUMNS), COLUMNS)
        lane = self.first_lane(tile)
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
            channel = least(lane + c, self.lanes - 1)
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

    def _gather(self, scratch: Expr, panel: Expr, tile: Index, phase: int) -> None:
        code, runs, block = self.code, self.phases[phase], self.block
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
            to = self.first(phase) + (tile * runs.turns + turn) * self.tile_elements(phase)
            place = to + word * (COLUMNS * block)
            store(code, panel, place, together(rows, COLUMNS), COLUMNS * block)

    def _row(self, runs: Runs, i: Index, j: Index, element: Index) -> Expr:
        """The weight row that an element of a run meets; the row of zeros where there is none."""
        _, _, r, s = self.weights.shape
        pixel, slot = tir.floordiv(element, runs.pitch), tir.floormod(element, runs.pitch)
        k = self.slots.channel(slot)
        tap_row = runs.phase.rows.tap(i)
        tap_column = runs.phase.columns.tap(runs.tap(pixel, j))
        inside = tir.all(pixel < runs.pixels, i32(0) + k < self.length)
        row = tir.Select(inside, (k * r + tap_row) * s + tap_column, i32(self._rows))
        return self.code.let(row, "int32", "row")
