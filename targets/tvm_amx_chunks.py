"""Chunks of an AMX weight gradient: pixels that are unpacked together, and their order in scratch.

Output pixel (image, row, column) of a chunk is number ``image * at_image + row * at_row + column *
at_column``; x lies so too, with the columns and rows that its taps reach beyond the last. Images of
few pixels are interleaved, so that a run of 64 bytes crosses images rather than borders.
"""

from __future__ import annotations

from dataclasses import dataclass

from .tvm_gemm import GemmSpec
from .tvm_gemm_chunks import PARTIAL_BYTES, PARTITIONS, Pixels, pixels
from .tvm_gemm_numbers import INT32_END, integers
from .tvm_gemm_shapes import shape4

PRIVATE_BYTES, SHARED_BYTES = 1 << 20, 4 << 20
ENOUGH = 1024  # pixels after which adding to the partial sums costs little


@dataclass(frozen=True, slots=True)
class Reach:
    """One dimension of x: ``phases`` of the stride in scratch, ``beyond`` places past the last."""

    stride: int
    dilation: int
    padding: int
    phases: int
    beyond: int

    @classmethod
    def of(cls, taps: int, stride: int, dilation: int, padding: int) -> Reach:
        """Of ``taps`` taps."""
        offsets = [tap * dilation for tap in range(taps)]
        phases = max(offset % stride for offset in offsets) + 1
        return cls(stride, dilation, padding, phases, offsets[-1] // stride)


@dataclass(frozen=True, slots=True)
class AmxChunks:
    """``images`` x ``rows`` pixels a chunk of a ``grid``; see ``Chunks`` for the last four.

    ``width`` columns a row in scratch, ``height`` rows of x.
    """

    grid: Pixels
    down: Reach
    across: Reach
    images: int
    rows: int
    count: int
    partitions: int
    each: int
    shared: bool

    @property
    def bands(self) -> int:
        """Chunks along an image."""
        return -(-self.grid.rows // self.rows)

    @property
    def width(self) -> int:
        """Pixels of a row in scratch."""
        return self.grid.columns + self.across.beyond

    @property
    def height(self) -> int:
        """Rows of x in scratch."""
        return self.rows + self.down.beyond

    @property
    def places(self) -> tuple[int, int, int]:
        """Distance between neighbouring images, rows and columns."""
        if self.grid.flat:
            return self.width, self.width * self.images, 1
        return 1, self.width * self.images, self.images

    @property
    def pixels(self) -> int:
        """Pixels that are summed over, those between rows included."""
        return self.rows * self.width * self.images

    @property
    def reach(self) -> int:
        """How far the last tap reads beyond a pixel."""
        _, row, column = self.places
        return self.down.beyond * row + self.across.beyond * column

    @property
    def direct(self) -> bool:
        """Whether a partial sum takes one chunk only."""
        return self.each == 1


def choose_amx_chunks(spec: GemmSpec, pixel_bytes: int, result_bytes: int) -> AmxChunks:
    """For pixels that take ``pixel_bytes`` of scratch and sums of ``result_bytes``."""
    grid = pixels(spec)
    _, _, *taps = shape4(spec.out)
    sides = zip(taps, spec.stride, spec.dilation, spec.padding, strict=True)
    down, across = (Reach.of(*side) for side in sides)
    few = min(PARTITIONS, grid.images)
    private = few * result_bytes <= PARTIAL_BYTES
    room = PRIVATE_BYTES if private else SHARED_BYTES
    most = min(room // pixel_bytes, _exact(spec))
    width = grid.columns + across.beyond
    rows = max(1, min(grid.rows, most // width))
    images = 1
    if rows == grid.rows:
        images = max(1, min(grid.images, most // (rows * width)))
        if private:
            enough = -(-ENOUGH // (rows * width))
            images = max(1, min(images, enough, grid.images // few))
    count = -(-grid.images // images) * -(-grid.rows // rows)
    if not private:
        return AmxChunks(grid, down, across, images, rows, count, 1, count, True)
    each = -(-count // min(PARTITIONS, count))
    return AmxChunks(grid, down, across, images, rows, count, -(-count // each), each, False)


def _exact(spec: GemmSpec) -> int:
    """Pixels whose sums int32 holds in every plane."""
    a, b = (integers(x.type.format) for x in (spec.a, spec.b))
    if a is None or b is None:
        return INT32_END
    return (INT32_END - 1) // (max(a.magnitude, 128) * b.magnitude)
