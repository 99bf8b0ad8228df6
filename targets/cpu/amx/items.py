"""Items of the AMX forward and dX kernels: which places one takes, and how they become tiles."""

from __future__ import annotations

from dataclasses import dataclass

from ...gemm.geometry import Geometry
from ..gemm.rows import Rows
from .tiles import ROWS

# Places of one item: their sums for 32 channels, two planes, stay in the second-level cache.
PLACES, SCRATCH_BYTES, ITEMS = 576, 512 << 10, 16
LESS = 0.85  # see lines_of


@dataclass(frozen=True, slots=True)
class Items:
    """An item: ``images`` x ``rows`` x ``columns`` places, one of ``parts`` of the channels."""

    images: int
    rows: int
    columns: int
    blocks: int
    count: int
    parts: int


@dataclass(frozen=True, slots=True)
class Lines:
    """Places of one image of an item as tiles: ``lines`` of ``tiles`` tiles of ``rows`` places.

    Neighbouring places are ``step`` scratch pixels apart, lines ``pitch``. A line is a row of
    places or, where ``row`` is not 0, all of them, ``row`` places apart.
    """

    lines: int
    tiles: int
    rows: int
    step: int
    pitch: int
    row: int


def lines_of(items: Items, rows: Rows) -> Lines:
    """The tiles of an image of an item."""
    width = rows.width(items.columns)
    down, step = rows.step
    tiles = -(-items.columns // ROWS)
    places = (items.rows - 1) * width + items.columns
    # One line costs a division a place; it must spare a good part of the tiles.
    if (down, step) == (1, 1) and -(-places // ROWS) < LESS * items.rows * tiles:
        return Lines(1, -(-places // ROWS), min(ROWS, places), 1, 0, width)
    return Lines(items.rows, tiles, min(ROWS, items.columns), step, down * width, 0)


def items_of(geo: Geometry, rows: Rows, pixel_bytes: int, blocks: int) -> Items:
    """The items of a kernel; they follow from the shapes alone."""
    if geo.flat:
        fair = max(2 * ROWS, -(-geo.width // ITEMS))
        columns = min(geo.width, PLACES, max(2 * ROWS, SCRATCH_BYTES // pixel_bytes), fair)
        count = -(-geo.width // columns)
        return Items(1, 1, columns, 1, count, min(blocks, -(-ITEMS // count)))
    width = rows.width(geo.columns.places)
    line = width * pixel_bytes
    halo = rows.height(1) - rows.step[0]
    room = max(1, (SCRATCH_BYTES // line - halo) // rows.step[0])
    fair = max(-(-geo.rows.places // -(-ITEMS // geo.images)), min(4, geo.rows.places))
    count = -(-geo.rows.places // min(geo.rows.places, room, fair, max(1, PLACES // width)))
    height = -(-geo.rows.places // count)
    images = 1
    if count == 1:
        whole = rows.height(height) * line
        images = max(1, min(PLACES // (height * width), SCRATCH_BYTES // whole))
        images = min(images, max(1, geo.images // ITEMS))
    blocks_ = -(-geo.images // images)
    return Items(
        images,
        height,
        geo.columns.places,
        blocks_,
        count,
        min(blocks, -(-ITEMS // (blocks_ * count))),
    )
