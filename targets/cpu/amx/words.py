"""Tiles of an AMX weight gradient: from rows of pixels of many images to A tiles and B tiles.

pixels   [image of a block][column][slot]      a row as the unpacker writes it
words    [images / block][16 slots][block]     a B tile of g
columns  [16 slots][images]                    an A tile of x
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, load
from ..gemm.cells import Cells, odd_lines
from ..gemm.transpose import together, transpose
from ..gemm.unpack import Unpacker
from ..gemm.vectors import bits, fill, store
from .tiles import COLUMNS, LINE, ROWS


@dataclass(frozen=True, slots=True)
class RowsOf:
    """Rows of ``width`` pixels of an image: pixel c is column ``column + c * step`` of ``columns``,
    row y is row ``y * down + row`` of ``rows``; what lies outside is 0."""

    width: int
    row: int
    down: int
    rows: int
    column: int
    step: int
    columns: int


@dataclass(frozen=True, eq=False, slots=True)
class TileMaker:
    """Makes tiles of one operand; ``images`` in all, ``flat`` where each is one pixel."""

    code: Code
    unpacker: Unpacker
    of: RowsOf
    images: int
    flat: bool

    @property
    def slots(self) -> int:
        """Elements of a pixel."""
        return self.unpacker.slots.count

    @property
    def tiles(self) -> int:
        """Tiles of a pixel: blocks of sixteen slots, the last of which may hold others too."""
        return -(-self.slots // COLUMNS)

    @property
    def block(self) -> int:
        """Elements of a word."""
        return 32 // self.unpacker.numbers.width

    @property
    def depth(self) -> int:
        """Images of a tile."""
        return ROWS * self.block

    @property
    def tile(self) -> int:
        """Elements of a tile."""
        return self.depth * COLUMNS

    @property
    def _pitch(self) -> int:
        """Elements of an image's row; an odd number of cache lines, so that images spread."""
        line = LINE // (4 // self.block)
        return odd_lines(self.of.width * self.slots + COLUMNS, line)

    @property
    def elements(self) -> int:
        """Elements of a row of all images of a block."""
        return self.depth * self._pitch

    def unpack(self, to: Expr, block: Index, y: Index) -> None:
        """Row ``y`` of the images of a block; images and rows beyond the last are 0."""
        code, of = self.code, self.of
        row = code.let(y * of.down + of.row, "int32", "row")
        with code.loop(self.depth) as i:
            image = block * self.depth + i
            start = i * self._pitch
            inside = tir.all(image < self.images, row >= 0, row < of.rows)
            with code.when(inside):
                self._row(to, start, (0, 0, image) if self.flat else (image, row, of.column))
            with code.when(tir.Not(inside)):
                self._blank(to, start, of.width)
            # Read by the last tile, beyond the slots; multiplied, but never stored.
            self._blank(to, start + of.width * self.slots, 1, COLUMNS)

    def _row(self, to: Expr, start: Index, at: tuple[Index, Index, Index]) -> None:
        of = self.of
        left, right = 0, of.width
        if not self.flat:
            left = min(of.width, max(0, -(of.column // of.step)))
            right = min(of.width, max(left, (of.columns - 1 - of.column) // of.step + 1))
        self._blank(to, start, left)
        if right > left:
            place = (at[0], at[1], at[2] + left * of.step)
            first = start + left * self.slots
            self.unpacker.row(to, Cells(first, self.slots), place, right - left, of.step)
        self._blank(to, start + right * self.slots, of.width - right)

    def _blank(self, to: Expr, start: Index, pixels: int, elements: int = 0) -> None:
        lanes = LINE * 8 // self.unpacker.numbers.width
        fill(self.code, to, start, pixels * (elements or self.slots), 0, lanes)

    def _word(self, pixels: Expr, first: Index, word: int) -> Expr:
        """One pixel of the images of a word, sixteen slots."""
        rows = [
            load(pixels, first + (word * self.block + b) * self._pitch, COLUMNS)
            for b in range(self.block)
        ]
        return together(rows, COLUMNS)

    def words(self, pixels: Expr, column: Index, tile: Index, to: Expr, place: Index) -> None:
        """The B tile of a pixel and block of slots."""
        lanes = COLUMNS * self.block
        for i in range(ROWS):
            value = self._word(pixels, column * self.slots + tile * COLUMNS, i)
            store(self.code, to, place + i * lanes, value, lanes)

    def columns(self, pixels: Expr, column: Index, tile: Index, to: Expr, place: Index) -> None:
        """The A tile of a pixel and block of slots."""
        lanes, dtype = COLUMNS * self.block, self.unpacker.numbers.dtype
        first = column * self.slots + tile * COLUMNS
        words = [bits(self._word(pixels, first, i), "int32", COLUMNS) for i in range(ROWS)]
        for i, row in enumerate(transpose(self.code, words)):
            store(self.code, to, place + i * lanes, bits(row, dtype, lanes), lanes)
