"""Forward and dX GEMMs on AMX: convolutions that unpack bands into cache and multiply tiles.

for each block of images and band of rows, in parallel:
    unpack the rows that the band needs into scratch, one plane of bytes after the other
    for each phase and block of output channels:
        for each group of tiles of 16 places: products over taps and channels, sums to scratch
        for each place: planes put together, then the epilogue

Where neighbouring places are neighbours in scratch, a band is one line of places in which the
borders between rows take part; their sums are not stored.
"""

from __future__ import annotations

from contextlib import nullcontext

from tvm import tirx as tir

from ....compiler.formats import BF16
from ...tir.expr import Code, Expr, Index, i32, load
from ..dialect import function
from ..gemm.epilogue import Epilogue, GemmBuffers, epilogue, put
from ..gemm.geometry import Phase, geometry
from ..gemm.rows import BandUnpacker, Rows
from ..gemm.shapes import shape4
from ..gemm.spec import Gemm, GemmSpec, ways
from ..gemm.units import ON_BF16_TILE, ON_INT8_TILE
from ..gemm.unpack import StoredTensor, Unpacker
from ..gemm.vectors import fill, least, splat, split
from .items import items_of, lines_of
from .panel import AmxPanel, Runs
from .planes import PLANE_BITS, planes
from .tiles import (
    COLUMNS,
    ROW_BYTES,
    ROWS,
    TILES,
    TileShape,
    dot,
    load_tile,
    store_tile,
    tiles,
    zero_tile,
)

MOST = 4  # C tiles at work at once


def _sums(gemm: Gemm) -> int | None:
    whole = gemm.groups == 1 and not gemm.weight_grad and gemm.accumulation is None
    return gemm.length if whole else None


def _build(spec: GemmSpec) -> tir.PrimFunc:
    def body(code: Code, slots: list[Expr]) -> None:
        _AmxTaps(code, spec, GemmBuffers.of(spec, slots)).emit()

    return function(spec.parameters, body)


AMX_TAPS = ways("tiles over taps", _sums, (ON_INT8_TILE, ON_BF16_TILE), _build)


class _AmxTaps:
    """The pieces of one kernel."""

    def __init__(self, code: Code, spec: GemmSpec, buffers: GemmBuffers) -> None:
        self.code, self.spec, self.buffers = code, spec, buffers
        self.dot, self.geo = spec.dot, geometry(spec)
        self.source, self.out = StoredTensor(buffers.a, spec.a), StoredTensor(buffers.out, spec.out)
        weights = StoredTensor(buffers.b, spec.b)
        forms = planes(spec.a.type.format, self.dot.a)
        in_order = _in_order(self.source, weights)
        wide = spec.cpu.vector_bytes
        self.unpackers = [Unpacker(code, self.source, n, wide, in_order) for n in forms]
        self.pitch = self.unpackers[0].slots.count
        self.element_bytes = 4 // self.dot.block
        self.rows = Rows(self.geo)
        self.bands = [BandUnpacker(code, self.rows, u, self.pitch, 0) for u in self.unpackers]
        self.phases = self.geo.phases
        self.panel = AmxPanel(
            code,
            weights,
            planes(spec.b.type.format, self.dot.b)[0],
            shape4(spec.out)[1],
            self.source.shape[1],
            spec.direction == "input_grad",
            self.unpackers[0].slots,
            tuple(Runs(p, self.pitch, self.element_bytes) for p in self.phases),
            wide,
        )
        self.items = items_of(self.geo, self.rows, self.pitch * self.element_bytes, self._wide)
        self.lines = lines_of(self.items, self.rows)

    @property
    def across(self) -> int:
        """B tiles at work at once."""
        return 2 if self.panel.tiles % 2 == 0 else 1

    @property
    def _wide(self) -> int:
        """Blocks of output channels."""
        return self.panel.tiles // self.across

    @property
    def down(self) -> int:
        """A tiles at work at once."""
        return min(MOST // self.across, self.items.images * self.lines.lines * self.lines.tiles)

    @property
    def _image(self) -> int:
        """Scratch pixels of an image of an item."""
        return self.rows.height(self.items.rows) * self.rows.width(self.items.columns)

    @property
    def _plane(self) -> int:
        """Scratch elements of a plane: tiles and runs may read a little beyond its images."""
        beyond = (ROWS * self.lines.step + 1) * self.pitch + ROW_BYTES
        return self.items.images * self._image * self.pitch + beyond

    @property
    def _sums(self) -> int:
        """Sums of a group of tiles, all planes."""
        return len(self.unpackers) * self.down * self.across * ROWS * COLUMNS

    def emit(self) -> None:
        """The whole kernel."""
        code, items = self.code, self.items
        with (
            code.workspace(self.dot.b, max(1, self.panel.elements)) as panel,
            epilogue(code, self.spec, self.buffers, COLUMNS, tables=True) as end,
        ):
            self.panel.fill(panel)
            with (
                code.blocks(items.blocks * items.count * items.parts) as item,
                code.workspace(self.dot.a, self._plane * len(self.unpackers)) as rows,
                code.workspace(self.dot.acc, self._sums) as sums,
            ):
                block, band, part = split(item, items.blocks, items.count, items.parts)
                images = 1 if self.geo.flat else self.geo.images
                image = least(block * items.images, images - items.images)
                self._unpack(rows, image, band)
                for phase in range(len(self.phases)):
                    self._phase((rows, panel, sums), end, (image, band, part), phase)

    def _unpack(self, rows: Expr, image: Index, band: Index) -> None:
        code, items = self.code, self.items
        for plane, scratch in enumerate(self.bands):
            start = plane * self._plane
            # What lies behind the last pixel meets weights of 0, and must be finite.
            end = start + items.images * self._image * self.pitch
            fill(code, rows, end, ROW_BYTES // self.element_bytes, 0, ROW_BYTES)
            if self.geo.flat:
                at = (0, 0, self._flat_start(band))
                scratch.unpacker.row(rows, start, self.pitch, at, items.columns, 1)
                continue
            with code.loop(items.images) as i:
                to = start + i * (self._image * self.pitch)
                first = band * items.rows
                scratch.unpack(rows, to, image + i, first, (items.rows, items.columns))

    def _flat_start(self, band: Index) -> Index:
        return least(band * self.items.columns, self.geo.width - self.items.columns)

    def _phase(
        self,
        memory: tuple[Expr, Expr, Expr],
        end: Epilogue,
        item: tuple[Index, Index, Index],
        phase: int,
    ) -> None:
        code, runs = self.code, self.panel.phases[phase]
        each = -(-self._wide // self.items.parts)
        row_bytes = runs.depth * self.element_bytes
        a = TileShape(self.lines.rows, row_bytes)
        b = TileShape(max(1, row_bytes // 4), COLUMNS * 4)
        c = TileShape(self.lines.rows, COLUMNS * 4)
        shapes = [*[c] * (self.down * self.across), *[b] * self.across]
        shapes += [a] * min(self.down, TILES - len(shapes))
        total = self.items.images * self.lines.lines * self.lines.tiles
        with (
            tiles(code, shapes),
            code.loop(each) as i,
            code.loop(-(-total // self.down)) as group,
        ):
            block = least(item[2] * each + i, self._wide - 1)
            numbers = [least(group * self.down + m, total - 1) for m in range(self.down)]
            if runs.turns:
                self._multiply(memory, (phase, block), numbers)
            for m, number in enumerate(numbers):
                self._store(memory[2], end, item, (phase, block), (m, number))

    def _multiply(
        self, memory: tuple[Expr, Expr, Expr], what: tuple[int, Index], numbers: list[Index]
    ) -> None:
        """The sums of a group of tiles of places, one plane after the other."""
        code, lines, (phase, block) = self.code, self.lines, what
        pixels = []
        for number in numbers:
            image, line, tile = self._place(number)
            pixel = image * self._image + line * lines.pitch + tile * (ROWS * lines.step)
            pixels.append(code.let(pixel, "int32", "pixel"))
        for plane in range(len(self.unpackers)):
            self._tile_sums(memory, self.panel.phases[phase], (phase, plane, block), pixels)
            for tile in range(self.down * self.across):
                to = (plane * self.down * self.across + tile) * (ROWS * COLUMNS)
                store_tile(code, tile, memory[2], to, COLUMNS * 4)

    def _place(self, number: Index) -> list[Expr]:
        """Image, line and tile of a tile of places."""
        lines = self.lines
        return split(i32(0) + number, self.items.images, lines.lines, lines.tiles)

    def _tile_sums(
        self,
        memory: tuple[Expr, Expr, Expr],
        runs: Runs,
        what: tuple[int, int, Index],
        pixels: list[Expr],
    ) -> None:
        code, (rows, panel, _), (phase, plane, block) = self.code, memory, what
        count = self.down * self.across
        b_tiles = range(count, count + self.across)
        a_tiles = range(count + self.across, min(TILES, count + self.across + self.down))
        for tile in range(count):
            zero_tile(code, tile)
        row_bytes = self.lines.step * self.pitch * self.element_bytes
        with (
            code.loop(runs.count[0]) as i,
            code.loop(runs.count[1]) as j,
            code.loop(runs.chunks) as chunk,
        ):
            turn = (i * runs.count[1] + j) * runs.chunks + chunk
            for n, b in enumerate(b_tiles):
                tile = (block * self.across + n) * runs.turns + turn
                start = self.panel.first(phase) + tile * self.panel.tile_elements(phase)
                load_tile(code, b, panel, start, COLUMNS * 4)
            shift = self._shift(runs, i, j)
            for m, pixel in enumerate(pixels):
                a = a_tiles[m % len(a_tiles)]
                start = (pixel + shift) * self.pitch + chunk * runs.depth
                load_tile(code, a, rows, plane * self._plane + start, row_bytes)
                for n, b in enumerate(b_tiles):
                    dot(code, self.dot.a, self.dot.b, m * self.across + n, a, b)

    def _shift(self, runs: Runs, i: Index, j: Index) -> Index:
        """Scratch pixels from a place to the first one of a run."""
        down, across = self.rows.shift(runs.phase, (i, runs.tap(0, j)))
        return down * self.rows.width(self.items.columns) + across

    def _store(
        self,
        sums: Expr,
        end: Epilogue,
        item: tuple[Index, Index, Index],
        what: tuple[int, Index],
        tile: tuple[int, Index],
    ) -> None:
        """Finish and store a tile of places: the ``tile[0]``-th of a group, number ``tile[1]``."""
        code, (_, band, _), lines, geo = self.code, item, self.lines, self.geo
        (phase, block), (m, number) = what, tile
        rows, columns = self.phases[phase].axes
        width = self.items.columns if geo.flat else columns.places
        count: Index = self.items.rows
        if not geo.flat and rows.places != self.items.rows * self.items.count:
            count = least(rows.places - band * self.items.rows, self.items.rows)
        image, line, first = self._place(number)
        whole = not lines.row and width % ROWS == 0
        together = 2 if whole and self._touch and self.panel.lanes == COLUMNS else 1
        with code.loop(lines.rows // together) as turn:
            place = first * ROWS + turn * together
            y, x = line, place
            if lines.row:
                y, x = tir.floordiv(place, lines.row), tir.floormod(place, lines.row)
            border = [] if whole else [x < width]
            border += [y < count] if lines.row or not isinstance(count, int) else []
            with code.when(tir.all(*border)) if border else nullcontext():
                at = self._at((item[0] + image, band, y, x), self.phases[phase])
                spots = [(row, n) for row in range(together) for n in range(self.across)]
                totals = [
                    self._total(sums, m * self.across + n, turn * together + row, phase)
                    for row, n in spots
                ]
                self._put(end, at, block, totals)

    @property
    def _touch(self) -> bool:
        """Whether neighbouring tiles of bf16 channels, or places of one tile, touch in memory."""
        near = self.panel.tiles > 1 or self.geo.columns.step == 1
        bf16 = self.out.format is BF16 and self.out.pixels
        return bf16 and near and self.panel.lanes % COLUMNS == 0

    def _put(
        self, end: Epilogue, at: tuple[Index, Index, Index], block: Index, totals: list[Expr]
    ) -> None:
        """Store the channels of a block at a place, or of one tile at two places."""
        firsts = [
            self.panel.first_lane(block * self.across + i % self.across) for i in range(len(totals))
        ]
        if self._touch and len(totals) == 2:
            both = end.finish_two(totals, firsts)
            put(self.code, self.out, at, firsts[0], (both, 2 * COLUMNS, 2 * COLUMNS))
            return
        some = min(COLUMNS, self.panel.lanes)
        for total, first in zip(totals, firsts, strict=True):
            put(self.code, self.out, at, first, (end.finish(total, first), COLUMNS, some))

    def _at(
        self, place: tuple[Index, Index, Index, Index], phase: Phase
    ) -> tuple[Index, Index, Index]:
        """Image, row and column of the result at a place of a phase."""
        image, band, y, x = place
        if self.geo.flat:
            return 0, 0, self._flat_start(band) + x
        return image, *self.geo.output(phase, band * self.items.rows + y, x)

    def _total(self, sums: Expr, tile: int, row: Index, phase: int) -> Expr:
        """A vector of sums over both planes."""
        if not self.panel.phases[phase].turns:
            return splat(0, self.dot.acc, COLUMNS)
        low = load(sums, (tile * ROWS + row) * COLUMNS, COLUMNS)
        if len(self.unpackers) == 1:
            return low
        tile += self.down * self.across
        high = load(sums, (tile * ROWS + row) * COLUMNS, COLUMNS)
        return low + tir.shift_left(high, splat(PLANE_BITS, "int32", COLUMNS))


def _in_order(source: StoredTensor, weights: StoredTensor) -> bool:
    """Whether channels must lie in their own order in scratch.

    They may lie side by side, as bytes hold them, where both operands do so, and where a slot that
    no channel fills holds the number 0.
    """
    parts = source.layout.parts
    uneven = source.shape[1] % parts != 0 and source.format.decode(0) != 0
    return parts != weights.layout.parts or uneven
