"""Chunks: how the sum of a weight gradient is cut over pixels and its result into tiles.

A chunk is some images, or some rows of one image, that fit in cache when unpacked. Small results
are summed in ``partitions``, each a fixed run of chunks with sums of its own, in parallel, and the
partitions are added in order. Large results are summed chunk after chunk, in parallel over tiles.
Both orders follow from the shapes alone, so float results do not depend on the threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...numbers.integers import fits_int32, integers
from .geometry import LATENCY, LOAD, TURN
from .pixels import Pixels
from .spec import GemmSpec

PRIVATE_BYTES, SHARED_BYTES = 384 << 10, 1 << 20
PARTITIONS, PARTIAL_BYTES, CHUNK_PIXELS = 16, 8 << 20, 256


@dataclass(frozen=True, slots=True)
class WeightTile:
    """Accumulators: tap columns x channels of x, by vectors of channels of g."""

    taps: int
    channels: int
    vectors: int


def choose_weight_tile(taps: int, channels: int, lanes: int, vector: int) -> WeightTile:
    """The cheapest tile for ``taps`` columns, ``channels`` of x and ``lanes`` channels of g."""
    registers = 32 if vector == 16 else 16
    best, least = WeightTile(1, 1, 1), float("inf")
    for t in (t for t in range(1, taps + 1) if taps % t == 0):
        for v in range(1, min(4, -(-lanes // vector)) + 1):
            for c in range(1, channels + 1):
                accumulators = t * c * v
                if accumulators + v + 1 > registers:
                    break
                turns = taps // t * -(-channels // c) * -(-lanes // (v * vector))
                cost = turns * (max(accumulators, LATENCY) + LOAD * (t * c + v) + TURN)
                if cost < least:
                    best, least = WeightTile(t, c, v), cost
    return best


@dataclass(frozen=True, slots=True)
class Chunks:
    """``images`` x ``rows`` a chunk, ``count`` chunks, in ``partitions`` of ``each`` or shared."""

    images: int
    rows: int
    bands: int
    count: int
    partitions: int
    each: int
    shared: bool


def choose_chunks(spec: GemmSpec, grid: Pixels, row_bytes: int, result_bytes: int) -> Chunks:
    """For rows that take ``row_bytes`` unpacked and sums of ``result_bytes``."""
    chunks = _cut(spec, grid, row_bytes, PRIVATE_BYTES)
    wanted = min(PARTITIONS, chunks.count)
    if wanted * result_bytes <= PARTIAL_BYTES:
        each = -(-chunks.count // wanted)
        return Chunks(
            chunks.images,
            chunks.rows,
            chunks.bands,
            chunks.count,
            -(-chunks.count // each),
            each,
            False,
        )
    return _cut(spec, grid, row_bytes, SHARED_BYTES)


def _cut(spec: GemmSpec, grid: Pixels, row_bytes: int, room: int) -> Chunks:
    most = max(1, room // row_bytes)
    a, b = (integers(x.type.format) for x in (spec.a, spec.b))
    if a and b and spec.dot.acc == "int32":
        while most > 1 and not fits_int32(a, b, most * grid.columns):
            most //= 2
    rows = min(grid.rows, most)
    bands = -(-grid.rows // rows)
    images = 1
    if bands == 1:
        few = -(-CHUNK_PIXELS // (grid.rows * grid.columns))
        images = max(1, min(grid.images, most // grid.rows))
        if room == PRIVATE_BYTES:
            images = max(1, min(images, few, -(-grid.images // PARTITIONS)))
    count = -(-grid.images // images) * bands
    return Chunks(images, rows, bands, count, 1, count, True)
