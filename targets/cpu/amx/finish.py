"""The end of an AMX weight gradient whose sums are whole: from C tiles to the stored result.

A C tile has channels of x as rows and channels of g as columns, the result the channels of x and
the taps together. One tap's tile is transposed in registers; several pass through a block in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ...gemm.shapes import shape4
from ...tir.expr import Code, Expr, Index, i32, load, shuffle
from ..dialect import LLVM
from ..gemm.epilogue import GemmBuffers, narrow, scalar_factor
from ..gemm.slots import Slots
from ..gemm.spec import GemmSpec
from ..gemm.transpose import transpose
from ..gemm.unpack import StoredTensor
from ..gemm.vectors import bits, cast, splat, store
from .tiles import COLUMNS, ROWS

# One more than a row has, so that a column's elements spread over the cache.
PITCH = COLUMNS + 1


@dataclass(frozen=True, eq=False, slots=True)
class TileFinish:
    """Stores what blocks of sixteen channels of x and of g have over all taps.

    Use ``columns`` where that is possible ``in_registers``, else ``tap`` for each, then ``place``.
    """

    code: Code
    spec: GemmSpec
    buffers: GemmBuffers
    g: Slots
    x: Slots

    @property
    def _taps(self) -> int:
        return prod(shape4(self.spec.out)[2:])

    @property
    def elements(self) -> int:
        """Elements of the block that tiles pass through."""
        return 1 if self.in_registers else self._taps * ROWS * PITCH

    @property
    def in_registers(self) -> bool:
        """Whether sixteen slots are whole runs of channels of the result."""
        _, channels, _, _ = shape4(self.spec.out)
        plain = self.spec.out.dtype == "float32" and self._taps == 1
        return plain and channels % ROWS == 0 and self.x.count == channels and self.x.parts <= 2

    def value(self, total: Expr) -> Expr:
        """The stored vector of a vector of sums."""
        code = self.code
        y = total if self.spec.dot.acc == "float32" else cast(total, "float32", COLUMNS)
        factor = scalar_factor(self.spec, self.buffers)
        if factor is not None:
            y = code.fence(y * splat(factor, "float32", COLUMNS), "float32", COLUMNS)
        return narrow(code, self.spec.out.type.format, y, COLUMNS)

    def columns(self, tiles: list[list[Expr]], k: Index, c: Index) -> None:
        """Store the rows of neighbouring tiles of one tap, the first of them block ``c`` of x."""
        out_channels, channels, _, _ = shape4(self.spec.out)
        words = [[bits(row, "int32", COLUMNS) for row in rows] for rows in tiles]
        columns = [transpose(self.code, rows) for rows in words]
        parts, slots = self.x.parts, ROWS * len(tiles)
        aligned = channels % (ROWS * parts) == 0 and slots // parts == ROWS
        streamed = aligned and self.spec.out.bytes >= LLVM.streamed_bytes
        for i, several in enumerate(zip(*columns, strict=True)):
            kept = self.g.channel(k * COLUMNS + i)
            numbers = [bits(column, "float32", COLUMNS) for column in several]
            with self.code.when(i32(0) + kept < out_channels):
                for part in range(parts):
                    run = shuffle(numbers, range(part, slots, parts))
                    to = kept * channels + part * (channels // parts) + c * (ROWS // parts)
                    if streamed:
                        self.code.stream(self.buffers.out, to, run, slots // parts)
                    else:
                        store(self.code, self.buffers.out, to, run, slots // parts)

    def tap(self, block: Expr, tap: Index, rows: list[Expr]) -> None:
        """Put the rows of a tap's tile into the block."""
        for i, row in enumerate(rows):
            store(self.code, block, (tap * ROWS + i) * PITCH, row, COLUMNS)

    def place(self, block: Expr, k: Index, c: Index) -> None:
        """Copy a block with all taps to the result."""
        code, taps = self.code, self._taps
        out_channels, channels, _, _ = shape4(self.spec.out)
        pixels = StoredTensor(self.buffers.out, self.spec.out).pixels
        with code.loop(COLUMNS) as lane, code.loop(ROWS) as i:
            kept = code.let(i32(0) + self.g.channel(k * COLUMNS + lane), "int32", "k")
            channel = code.let(i32(0) + self.x.channel(c * ROWS + i), "int32", "c")
            with (
                code.when(kept < out_channels),
                code.when(channel < channels),
                code.loop(taps) as tap,
            ):
                to = tap * channels + channel if pixels else channel * taps + tap
                value = load(block, (tap * ROWS + i) * PITCH + lane)
                code.store(self.buffers.out, kept * (channels * taps) + to, value)
