"""Chunks: how the sum of a weight gradient is cut over pixels and its result into tiles.

A chunk is some images, or some rows of one image, that fit in cache when unpacked.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...numbers.integers import integers
from ...tir.expr import Expr
from .partitions import PARTITIONS, Partitions, apart
from .pixels import Pixels
from .spec import GemmSpec
from .tile import LATENCY, LOAD, TURN, registers
from .units import Dot, fits

# Scratch of a chunk, within the second-level cache of the CPUs of today; sums of all partitions.
CHUNK_BYTES, PARTIAL_BYTES = 384 << 10, 3 << 20
CHUNK_PIXELS = 256


@dataclass(frozen=True, slots=True)
class WeightTile:
    """Accumulators: tap columns x channels of x, by vectors of channels of g."""

    taps: int
    channels: int
    vectors: int


def choose_weight_tile(dot: Dot, taps: int, channels: int, lanes: int, vector: int) -> WeightTile:
    """The cheapest tile for ``taps`` columns, ``channels`` of x and ``lanes`` channels of g."""
    most = registers(dot, vector)
    best, least = WeightTile(1, 1, 1), float("inf")
    # Where a word is one pixel, taps of neighbours read the same words: LLVM keeps those in
    # registers too, and sums outside.
    widest = 1 if dot.block == 1 else taps
    for t in (t for t in range(1, widest + 1) if taps % t == 0):
        for v in range(1, min(4, -(-lanes // vector)) + 1):
            for c in range(1, channels + 1):
                accumulators = t * c * v
                if accumulators + v + 1 > most:
                    break
                turns = taps // t * -(-channels // c) * -(-lanes // (v * vector))
                cost = turns * (max(accumulators, LATENCY) + LOAD * (t * c + v) + TURN)
                if cost < least:
                    best, least = WeightTile(t, c, v), cost
    return best


@dataclass(frozen=True, eq=False, slots=True)
class ChunkMemory:
    """What one chunk's sums multiply, prepared in scratch."""

    g: Expr
    x: Expr


@dataclass(frozen=True, slots=True)
class Chunks:
    """``images`` x ``rows`` a chunk, ``bands`` chunks along an image."""

    images: int
    rows: int
    bands: int
    partitions: Partitions


def choose_chunks(spec: GemmSpec, grid: Pixels, row_bytes: int, result_bytes: int) -> Chunks:
    """For rows that take ``row_bytes`` unpacked and sums of ``result_bytes``."""
    chunks = _cut(spec, grid, row_bytes, shared=False)
    if spec.batch > 1 or apart(chunks.partitions.chunks, result_bytes, PARTIAL_BYTES):
        return chunks
    return _cut(spec, grid, row_bytes, shared=True)


def _cut(spec: GemmSpec, grid: Pixels, row_bytes: int, *, shared: bool) -> Chunks:
    most = max(1, CHUNK_BYTES // row_bytes)
    a, b = (integers(x.type.format) for x in (spec.a, spec.b))
    if a and b and spec.dot.acc != "float32":
        while most > 1 and not fits(spec.dot, a, b, most * grid.columns):
            most //= 2
    rows = min(grid.rows, most)
    bands = -(-grid.rows // rows)
    if spec.batch > 1:
        return Chunks(1, rows, bands, Partitions(grid.images * bands, grid.images, bands, False))
    images = 1
    if bands == 1:
        few = -(-CHUNK_PIXELS // (grid.rows * grid.columns))
        images = max(1, min(grid.images, most // grid.rows))
        if not shared:
            images = max(1, min(images, few, -(-grid.images // PARTITIONS)))
    count = -(-grid.images // images) * bands
    return Chunks(images, rows, bands, Partitions.of(count, shared=shared))
