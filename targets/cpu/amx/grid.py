"""A grid of tile registers: A tiles times B tiles, each of one with each of the other.

Four C tiles at work hide the latency of a product; what is left of the eight registers holds the
A and B tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...tir.expr import Code, Expr, Index
from .tiles import COLUMNS, ROWS, TILES, TileShape, dot, load_tile, store_tile, zero_tile

MOST = 4  # C tiles at work at once
TILE_SUMS = ROWS * COLUMNS
ROW_OF_SUMS = COLUMNS * 4  # bytes


@dataclass(frozen=True, eq=False, slots=True)
class StoredTile:
    """A tile in memory: rows from element ``start`` of a buffer on, ``row_bytes`` apart."""

    buffer: Expr
    start: Index
    row_bytes: int


@dataclass(frozen=True, slots=True)
class TileGrid:
    """``down`` A tiles by ``across`` B tiles: registers of C tiles, then of B, then of A tiles.

    A tiles take turns in the registers that are left.
    """

    down: int
    across: int

    @classmethod
    def of(cls, down: int, across: int) -> TileGrid:
        """``across`` B tiles and as many A tiles as there is work for, of ``down``."""
        return cls(min(MOST // across, down), across)

    @property
    def count(self) -> int:
        """C tiles."""
        return self.down * self.across

    def shapes(self, a: TileShape, b: TileShape, c: TileShape) -> list[TileShape]:
        """The shapes of all registers."""
        return [*[c] * self.count, *[b] * self.across, *[a] * self._a_registers]

    @property
    def _a_registers(self) -> int:
        return min(self.down, TILES - self.count - self.across)

    def _a(self, m: int) -> int:
        return self.count + self.across + m % self._a_registers

    def _b(self, n: int) -> int:
        return self.count + n

    def _c(self, m: int, n: int) -> int:
        return m * self.across + n

    def zero(self, code: Code, down: int) -> None:
        """Set the sums of the first ``down`` A tiles to 0."""
        for tile in range(down * self.across):
            zero_tile(code, tile)

    def multiply(
        self, code: Code, types: tuple[str, str], a: Sequence[StoredTile], b: Sequence[StoredTile]
    ) -> None:
        """Add the products of A tiles and B tiles of these element types."""
        for n, tile in enumerate(b):
            load_tile(code, self._b(n), tile.buffer, tile.start, tile.row_bytes)
        for m, tile in enumerate(a):
            load_tile(code, self._a(m), tile.buffer, tile.start, tile.row_bytes)
            for n in range(self.across):
                dot(code, *types, self._c(m, n), self._a(m), self._b(n))

    def store(self, code: Code, to: Expr, first: Index, down: int) -> None:
        """Store the sums of the first ``down`` A tiles, as tiles from number ``first`` on."""
        for tile in range(down * self.across):
            store_tile(code, tile, to, (first + tile) * TILE_SUMS, ROW_OF_SUMS)
