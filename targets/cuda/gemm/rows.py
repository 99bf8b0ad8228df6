"""Where bytes of rows lie in shared memory: 16 of each of eight rows meet no bank twice."""

from __future__ import annotations

from tvm import tirx as tir

from ...tir.expr import Expr, i32
from .frame import STEP, TileFrame

CHUNK = 16  # bytes of a row that ldmatrix takes
CHUNKS = STEP // CHUNK


def word_of(frame: TileFrame, which: int, row: Expr, byte: Expr) -> Expr:
    """The word, of a tile, of a byte that begins one.

    Rows of k have no room between them: two are a line of all banks, and the four pairs of eight
    rows hold their chunks in different orders. Rows of pixels, of any length, lie apart.
    """
    start = row * i32(frame.pitches[which] // 4)
    if frame.spec.weight_grad:
        return start + tir.floordiv(byte, i32(4))
    pair = tir.floormod(tir.floordiv(row, i32(2)), i32(CHUNKS))
    chunk = tir.bitwise_xor(tir.floordiv(byte, i32(CHUNK)), pair)
    within = tir.floordiv(tir.floormod(byte, i32(CHUNK)), i32(4))
    return start + chunk * i32(CHUNK // 4) + within
