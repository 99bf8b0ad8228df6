"""Chunks of an AMX weight gradient: blocks of images by rows of pixels that are prepared together.

A row of a tile holds 64 bytes of what is summed over: here one pixel of 64 images (32 in bf16). So
a tap is another pixel of x, tiles are never read across their borders, and no border between rows
takes part in a sum. A 1x1 convolution has images of one pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...numbers.integers import INT32_END, integers
from ..gemm.chunks import PARTIAL_BYTES, PARTITIONS
from ..gemm.shapes import shape4
from ..gemm.spec import GemmSpec

PRIVATE_BYTES, SHARED_BYTES, TILE_BYTES = 3 << 19, 4 << 20, 1024
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
    """``blocks`` of images by ``rows`` output rows a chunk; see ``Chunks`` for the last four.

    ``images``, ``height``, ``width`` are those of g; ``flat`` says that they count its pixels.
    """

    images: int
    height: int
    width: int
    flat: bool
    down: Reach
    across: Reach
    blocks: int
    rows: int
    count: int
    partitions: int
    each: int
    shared: bool

    @property
    def bands(self) -> int:
        """Chunks along an image."""
        return -(-self.height // self.rows)

    @property
    def direct(self) -> bool:
        """Whether a partial sum takes one chunk only."""
        return self.each == 1

    @property
    def size_x(self) -> tuple[int, int, int]:
        """Blocks, rows and columns of x in scratch."""
        return self.blocks, self.down.extent(self.rows), self.across.extent(self.width)

    @property
    def size_g(self) -> tuple[int, int, int]:
        """Blocks, rows and columns of g in scratch."""
        return self.blocks, self.rows, self.width


def choose_amx_chunks(
    spec: GemmSpec, depth: int, tiles: tuple[int, int], result_bytes: int
) -> AmxChunks:
    """For ``depth`` images a block, tiles of x and of g a pixel, and sums of ``result_bytes``."""
    images, height, width, flat = _grid(spec)
    _, _, *taps = shape4(spec.out)
    down, across = (
        Reach(*side) for side in zip(taps, spec.stride, spec.dilation, spec.padding, strict=True)
    )
    all_blocks = -(-images // depth)
    private = min(PARTITIONS, all_blocks * height) * result_bytes <= PARTIAL_BYTES
    room = (PRIVATE_BYTES if private else SHARED_BYTES) // TILE_BYTES

    def tiles_of(rows: int) -> int:
        return down.extent(rows) * across.extent(width) * tiles[0] + rows * width * tiles[1]

    exact = _exact(spec) // depth
    most = [n for n in range(1, height + 1) if tiles_of(n) <= room and n * width <= exact]
    rows = max(most, default=1)
    if private:
        fair = -(-height // -(-PARTITIONS // all_blocks))
        rows = min(rows, max(fair, ROWS_LEAST))
    rows = -(-height // -(-height // rows))
    blocks = 1
    if rows == height:
        wanted = -(-all_blocks // PARTITIONS) if private else all_blocks
        blocks = max(1, min(wanted, room // tiles_of(rows), exact // (rows * width)))
        blocks = -(-all_blocks // -(-all_blocks // blocks))
    count = -(-all_blocks // blocks) * -(-height // rows)
    each = -(-count // min(PARTITIONS, count)) if private else count
    partitions = -(-count // each) if private else 1
    grid = (images, height, width, flat)
    return AmxChunks(*grid, down, across, blocks, rows, count, partitions, each, not private)


def _grid(spec: GemmSpec) -> tuple[int, int, int, bool]:
    """Images, rows and columns of output pixels, and whether pixels count as images."""
    n, _, h, w = shape4(spec.a)
    return (n * h * w, 1, 1, True) if spec.pointwise else (n, h, w, False)


def _exact(spec: GemmSpec) -> int:
    """Pixels whose sums int32 holds in every plane."""
    a, b = (integers(x.type.format) for x in (spec.a, spec.b))
    if a is None or b is None:
        return INT32_END
    return (INT32_END - 1) // (max(a.magnitude, 128) * b.magnitude)
