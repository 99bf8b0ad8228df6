"""The end of an AMX weight gradient whose sums are whole: from C tiles to the stored result.

A C tile has channels of x as rows and channels of g as columns, the result the channels of x and
the taps together. One tap's tile is transposed in registers; several pass through a block in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .tvm_amx_ir import COLUMNS, ROWS, shuffle, transpose
from .tvm_expr import Code, Expr, Index, i32
from .tvm_gemm import GemmSpec
from .tvm_gemm_epilogue import Buffers, narrow, scalar_factor
from .tvm_gemm_ir import bits, cast, load, splat, store
from .tvm_gemm_shapes import shape4
from .tvm_gemm_unpack import Operand, Unpacker

# An odd number of cache lines is not needed in a block of rows of one line; one more column is.
PITCH = COLUMNS + 1


@dataclass(frozen=True, eq=False, slots=True)
class TileFinish:
    """Stores what one block of sixteen channels of x and one of g have over all taps."""

    code: Code
    spec: GemmSpec
    buffers: Buffers
    g: Unpacker
    x: Unpacker

    @property
    def _taps(self) -> int:
        return prod(shape4(self.spec.out)[2:])

    @property
    def elements(self) -> int:
        """Elements of the block that tiles pass through."""
        return 1 if self._in_registers else self._taps * ROWS * PITCH

    @property
    def _in_registers(self) -> bool:
        """Whether sixteen slots are whole runs of channels of the result."""
        _, channels, _, _ = shape4(self.spec.out)
        plain = self.spec.out.dtype == "float32" and self._taps == 1
        return plain and channels % ROWS == 0 and self.x.slots == channels and self.x.parts <= 2

    def value(self, total: Expr) -> Expr:
        """The stored vector of a vector of sums."""
        code = self.code
        y = total if self.spec.dot.acc == "float32" else cast(total, "float32", COLUMNS)
        factor = scalar_factor(self.spec, self.buffers)
        if factor is not None:
            y = code.fence(y * splat(factor, "float32", COLUMNS), "float32", COLUMNS)
        return narrow(code, self.spec.out.type.format, y, COLUMNS)

    def tap(self, block: Expr, tap: Index, rows: list[Expr], k: Index, c: Index) -> None:
        """Take the sixteen rows of a tap's tile; ``k`` and ``c`` number the blocks of channels."""
        if self._in_registers:
            words = [bits(row, "int32", COLUMNS) for row in rows]
            self._store_columns(transpose(self.code, words), k * COLUMNS, c)
            return
        for i, row in enumerate(rows):
            store(self.code, block, (tap * ROWS + i) * PITCH, row, COLUMNS)

    def _store_columns(self, columns: list[Expr], lane: Index, c: Index) -> None:
        out_channels, channels, _, _ = shape4(self.spec.out)
        parts, run = self.x.parts, ROWS // self.x.parts
        for i, column in enumerate(columns):
            k = self.g.channel(lane + i)
            numbers = bits(column, "float32", COLUMNS)
            with self.code.when(i32(0) + k < out_channels):
                for part in range(parts):
                    places = range(part, ROWS, parts)
                    some = shuffle([numbers], places) if parts > 1 else numbers
                    to = k * channels + part * (channels // parts) + c * run
                    store(self.code, self.buffers.out, to, some, run)

    def place(self, block: Expr, k: Index, c: Index) -> None:
        """Copy a block with all taps to the result."""
        if self._in_registers:
            return
        code, taps = self.code, self._taps
        out_channels, channels, _, _ = shape4(self.spec.out)
        pixels = Operand(self.buffers.out, self.spec.out).pixels
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
