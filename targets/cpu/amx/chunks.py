"""Chunks of an AMX weight gradient: blocks of images by rows of pixels that are prepared together.

A row of a tile holds 64 bytes of what is summed over: here one pixel of 64 images (32 in bf16). So
a tap is another pixel of x, tiles are never read across their borders, and no border between rows
takes part in a sum. A 1x1 convolution has images of one pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...gemm.shapes import shape4
from ...numbers.integers import INT32_END, integers
from ..gemm.partitions import PARTITIONS, Partitions, apart
from ..gemm.pixels import Pixels
from ..gemm.spec import GemmSpec
from ..gemm.units import most_in_planes

PRIVATE_BYTES, SHARED_BYTES, TILE_BYTES, PARTIAL_BYTES = 3 << 19, 4 << 20, 1024, 8 << 20
ROWS_LEAST = 4  # rows of a band at least: its rows of x are prepared again by its neighbours


@dataclass(frozen=True, slots=True)
class Reach:
    """One dimension of x in scratch: where its outputs and taps lie."""

    taps: int
    stride: int
    dilation: int
    padding: int

    @property
    def step(self) -> int:
        """Between neighbouring outputs; pixels that no tap reads are left out."""
        return self.stride if self.taps > 1 else 1

    @property
    def source_step(self) -> int:
        """Between neighbours in scratch, in pixels of x."""
        return self.stride // self.step

    def extent(self, outputs: int) -> int:
        """Pixels that some outputs need."""
        return (outputs - 1) * self.step + (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True, slots=True)
class AmxChunks:
    """``blocks`` of images by ``rows`` rows of the ``grid`` of g a chunk.

    Images of a flat grid are pixels.
    """

    grid: Pixels
    down: Reach
    across: Reach
    blocks: int
    rows: int
    partitions: Partitions

    @property
    def bands(self) -> int:
        """Chunks along an image."""
        return -(-self.grid.rows // self.rows)

    @property
    def direct(self) -> bool:
        """Whether a partial sum takes one chunk only."""
        return self.partitions.each == 1

    @property
    def whole(self) -> bool:
        """Whether the sums of a chunk are the result's."""
        return self.partitions.chunks == 1

    @property
    def size_x(self) -> tuple[int, int, int]:
        """Blocks, rows and columns of x in scratch."""
        return self.blocks, self.down.extent(self.rows), self.across.extent(self.grid.columns)

    @property
    def size_g(self) -> tuple[int, int, int]:
        """Blocks, rows and columns of g in scratch."""
        return self.blocks, self.rows, self.grid.columns


@dataclass(frozen=True, slots=True)
class _Limits:
    """What bounds a chunk: ``room`` for tiles in cache, and what int32 holds.

    A pixel of a block of images takes ``x_tiles`` of x, ``g_tiles`` of g; the sums over ``exact``
    pixels of blocks fit int32.
    """

    grid: Pixels
    down: Reach
    across: Reach
    x_tiles: int
    g_tiles: int
    room: int
    exact: int

    def blocks(self, rows: int) -> int:
        """Blocks of images that chunks of so many rows may have, at most; 0 for too many rows."""
        pixels = rows * self.grid.columns
        pixels_x = self.down.extent(rows) * self.across.extent(self.grid.columns)
        tiles = pixels_x * self.x_tiles + pixels * self.g_tiles
        return min(self.room // tiles, self.exact // pixels)

    @property
    def rows(self) -> int:
        """Rows of a chunk of one block, at most."""
        return max((n for n in range(1, self.grid.rows + 1) if self.blocks(n)), default=1)


def choose_amx_chunks(
    spec: GemmSpec, depth: int, tiles: tuple[int, int], result_bytes: int
) -> AmxChunks:
    """For ``depth`` images a block, tiles of x and of g a pixel, and sums of ``result_bytes``."""
    grid = _grid(spec)
    _, _, *taps = shape4(spec.out)
    down, across = (
        Reach(*side) for side in zip(taps, spec.stride, spec.dilation, spec.padding, strict=True)
    )
    all_blocks = -(-grid.images // depth)
    shared = not apart(all_blocks * grid.rows, result_bytes, PARTIAL_BYTES)
    room = (SHARED_BYTES if shared else PRIVATE_BYTES) // TILE_BYTES
    exact = _exact(spec) // min(depth, grid.images)
    limits = _Limits(grid, down, across, *tiles, room, exact)
    rows = _rows(limits, all_blocks, shared)
    blocks = _blocks(limits, all_blocks, shared) if rows == grid.rows else 1
    count = -(-all_blocks // blocks) * -(-grid.rows // rows)
    return AmxChunks(grid, down, across, blocks, rows, Partitions.of(count, shared=shared))


def _rows(limits: _Limits, all_blocks: int, shared: bool) -> int:
    """Rows of a chunk: those that fit, but few enough to leave chunks for all partitions."""
    rows, most = limits.grid.rows, limits.rows
    if not shared:
        bands = -(-PARTITIONS // all_blocks)
        most = min(most, max(-(-rows // bands), ROWS_LEAST))
    return _even(rows, most)


def _blocks(limits: _Limits, all_blocks: int, shared: bool) -> int:
    """Blocks of images of a chunk that has all rows: likewise."""
    wanted = all_blocks if shared else -(-all_blocks // PARTITIONS)
    return _even(all_blocks, max(1, min(wanted, limits.blocks(limits.grid.rows))))


def _even(total: int, most: int) -> int:
    """The size of pieces of ``total``, as few as ``most`` allows and as even as that number."""
    return -(-total // -(-total // most))


def _grid(spec: GemmSpec) -> Pixels:
    """The pixels of g; those of a 1x1 convolution are images of one."""
    n, _, h, w = shape4(spec.a)
    return Pixels(n * h * w, 1, 1, True) if spec.pointwise else Pixels(n, h, w, False)


def _exact(spec: GemmSpec) -> int:
    """Pixels whose sums int32 holds in every plane; of floats any number."""
    a, b = (integers(x.type.format) for x in (spec.a, spec.b))
    return most_in_planes(a, b) if a and b else INT32_END
