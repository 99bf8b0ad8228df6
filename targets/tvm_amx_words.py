"""Scratch of an AMX weight gradient: pixels unpacked, then turned into A and B tiles.

    pixels   [pixel][slot]                         as the unpacker writes them
    words    [16 slots][pixel / block][slot][block]        B tiles of g: pixels in words
    columns  [slot][pixel]                         A tiles of x: any 64 bytes of a slot's pixels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .tvm_amx_ir import COLUMNS, ROW_BYTES, ROWS, together, transpose
from .tvm_expr import Code, Expr, Index
from .tvm_gemm_ir import bits, fill, load, store
from .tvm_gemm_unpack import Unpacker


@dataclass(frozen=True, eq=False, slots=True)
class PixelScratch:
    """Unpacked pixels of one operand; ``pixels`` of them count, the rest up to ``room`` is 0.

    ``at_column`` is the distance between neighbouring pixels of a row.
    """

    code: Code
    unpacker: Unpacker
    pixels: int
    room: int
    at_column: int

    @property
    def slots(self) -> int:
        """Elements of a pixel."""
        return self.unpacker.slots

    @property
    def tiles(self) -> int:
        """Blocks of sixteen slots; the last one may reach into the next pixel."""
        return -(-self.slots // COLUMNS)

    @property
    def block(self) -> int:
        """Elements of a word."""
        return 32 // self.unpacker.numbers.width

    @property
    def step(self) -> int:
        """Pixels of a tile."""
        return ROWS * self.block

    @property
    def elements(self) -> int:
        """Elements of the scratch, with what the last tile reads beyond."""
        return self.room * self.slots + COLUMNS

    def clear_end(self, to: Expr, start: Index) -> None:
        """Zero what lies behind the last pixel."""
        n = self.elements - self.pixels * self.slots
        fill(self.code, to, start + self.pixels * self.slots, n, 0, self._widest)

    def row(
        self, to: Expr, start: Index, at: tuple[Index, Index, Index], n: int, step: int, end: int
    ) -> None:
        """A row of ``n`` pixels ``step`` columns apart; columns outside ``0 .. end`` are 0.

        ``at`` is (image, row, column) of the first; a computed column has all its pixels inside.
        """
        image, h, first = at
        left, right = 0, n
        if isinstance(first, int):
            left = min(n, max(0, -(first // step)))
            right = min(n, max(left, (end - 1 - first) // step + 1))
        pitch = self.at_column * self.slots
        self.blank(to, start, left)
        if right > left:
            place = (image, h, first + left * step)
            self.unpacker.row(to, start + left * pitch, pitch, place, right - left, step)
        self.blank(to, start + right * pitch, n - right)

    def blank(self, to: Expr, start: Index, n: int) -> None:
        """Zero ``n`` pixels of a row."""
        if self.at_column == 1:
            fill(self.code, to, start, n * self.slots, 0, self._widest)
            return
        with self.code.loop(n) as i:
            pixel = start + i * (self.at_column * self.slots)
            fill(self.code, to, pixel, self.slots, 0, self._widest)

    @property
    def _widest(self) -> int:
        return ROW_BYTES * 8 // self.unpacker.numbers.width

    def word(self, scratch: Expr, start: Index, tile: Index, word: Index) -> Expr:
        """A row of a B tile: the pixels of a word, for sixteen slots."""
        first = start + word * (self.block * self.slots) + tile * COLUMNS
        rows = [load(scratch, first + b * self.slots, COLUMNS) for b in range(self.block)]
        return together(rows, COLUMNS)

    def words(self, scratch: Expr, start: Index, tile: Index, to: Expr, place: Index) -> None:
        """B tiles of sixteen slots, all pixels."""
        lanes = COLUMNS * self.block
        with self.code.loop(self.room // self.block) as word:
            value = self.word(scratch, start, tile, word)
            store(self.code, to, place + word * lanes, value, lanes)

    def columns(
        self, scratch: Expr, start: Index, tile: Index, to: Expr, place: Callable[[int], Index]
    ) -> None:
        """Sixteen slots with their pixels in a row; ``place(i)`` is where slot i begins."""
        code, dtype, lanes = self.code, self.unpacker.numbers.dtype, COLUMNS * self.block
        with code.loop(self.room // self.step) as turn:
            words = [
                bits(self.word(scratch, start, tile, turn * ROWS + i), "int32", COLUMNS)
                for i in range(ROWS)
            ]
            for i, column in enumerate(transpose(code, words)):
                value = bits(column, dtype, lanes)
                store(code, to, place(i) + turn * self.step, value, lanes)
