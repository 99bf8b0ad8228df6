"""AMX in generated code: the tile registers of a core, and shuffles that fill scratch for tiles.

A tile is up to 16 rows of up to 64 bytes; eight exist. ``dot`` adds the matrix product of an A tile
(rows of 64 bytes: what is summed over) and a B tile (rows of four bytes, or two bf16, of each of 16
columns) to a C tile (rows of 16 sums). Loads take any address and any distance between rows, so
rows may overlap: a row of taps is read without being copied together first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir
from tvm.tirx import stmt as st

from ...tir.expr import Code, Expr, Index, i32
from ..gemm.vectors import splat, store

ROWS, ROW_BYTES, COLUMNS, TILES = 16, 64, 16, 8
LINE = 64  # bytes of a cache line
PALETTE, ROW_LENGTHS, ROW_COUNTS = 0, 16, 48  # bytes of the 64 that configure the tiles
DOTS = {
    ("int8", "int8"): "tdpbssd",
    ("int8", "uint8"): "tdpbsud",
    ("uint8", "int8"): "tdpbusd",
    ("uint8", "uint8"): "tdpbuud",
    ("uint16", "uint16"): "tdpbf16ps",  # bf16 is handled by its bits
}


@dataclass(frozen=True, slots=True)
class TileShape:
    """Rows and bytes a row of one tile register."""

    rows: int = ROWS
    row_bytes: int = ROW_BYTES


@contextmanager
def tiles(code: Code, shapes: Sequence[TileShape]) -> Iterator[None]:
    """Tile registers of these shapes while the ``with`` lasts, on the thread that runs it."""
    assert len(shapes) <= TILES
    setting = code.local("uint8", 64)
    store(code, setting, 0, splat(0, "uint8", 64), 64)
    numbers = {PALETTE: 1}
    for i, shape in enumerate(shapes):
        numbers |= {ROW_LENGTHS + 2 * i: shape.row_bytes, ROW_COUNTS + i: shape.rows}
    for place, number in numbers.items():
        store(code, setting, place, tir.const(number, "uint8"))
    _do(code, "ldtilecfg", tir.address_of(setting[i32(0)]))
    yield
    _do(code, "tilerelease")


def zero_tile(code: Code, tile: int) -> None:
    """Set all sums of a tile to 0."""
    _do(code, "tilezero", _register(tile))


def load_tile(code: Code, tile: int, buffer: Expr, start: Index, row_bytes: Index) -> None:
    """Read a tile whose rows begin at element ``start``, ``row_bytes`` apart."""
    _do(code, "tileloadd64", _register(tile), *_place(buffer, start, row_bytes))


def store_tile(code: Code, tile: int, buffer: Expr, start: Index, row_bytes: Index) -> None:
    """Write a tile's rows from element ``start`` on, ``row_bytes`` apart."""
    _do(code, "tilestored64", _register(tile), *_place(buffer, start, row_bytes))


def dot(code: Code, a_type: str, b_type: str, c: int, a: int, b: int) -> None:
    """``c += a b`` for tiles of these element types."""
    _do(code, DOTS[a_type, b_type], *map(_register, (c, a, b)))


def _register(tile: int) -> Expr:
    return tir.const(tile, "int8")


def _place(buffer: Expr, start: Index, row_bytes: Index) -> tuple[Expr, Expr]:
    start = i32(start) if isinstance(start, int) else start
    distance = i32(row_bytes) if isinstance(row_bytes, int) else row_bytes
    return tir.address_of(buffer[start]), tir.Cast("int64", distance)


def _do(code: Code, name: str, *arguments: Expr) -> None:
    code.add(st.Evaluate(tir.call_llvm_intrin("void", f"llvm.x86.{name}", *arguments)))
