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

from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index
from ..dialect import function
from ..gemm.cells import Cells
from ..gemm.epilogue import GemmBuffers, epilogue
from ..gemm.rows import BandUnpacker
from ..gemm.spec import GemmSpec
from ..gemm.unpack import StoredTensor, Unpacker
from ..gemm.vectors import fill, least, split
from .grid import ROW_OF_SUMS, StoredTile
from .panel import Runs
from .panel_writer import AmxPanelWriter
from .places import PlaceWriter, place_of
from .taps_plan import AmxTapsPlan, plan_amx_taps
from .tiles import COLUMNS, ROW_BYTES, ROWS, TileShape, tiles


def build_amx_taps(spec: GemmSpec) -> tir.PrimFunc:
    """The function of a forward or dX GEMM."""

    def body(code: Code, slots: list[Expr]) -> None:
        _emit(code, plan_amx_taps(spec), GemmBuffers.of(spec, slots))

    return function(spec.parameters, body)


def _emit(code: Code, plan: AmxTapsPlan, buffers: GemmBuffers) -> None:
    """The whole kernel of a plan."""
    spec, items = plan.spec, plan.items
    with (
        code.workspace(spec.dot.b, max(1, plan.panel.elements)) as weights,
        epilogue(code, spec, buffers, COLUMNS, tables=True) as end,
    ):
        stored = StoredTensor(buffers.b, spec.b)
        AmxPanelWriter(code, spec, plan.panel, stored, plan.slots).fill(weights)
        with (
            code.blocks(items.blocks * items.count * items.parts) as item,
            code.workspace(spec.dot.a, plan.form_elements * len(plan.forms)) as rows,
            code.workspace(spec.dot.acc, plan.sums) as sums,
        ):
            block, band, part = split(item, items.blocks, items.count, items.parts)
            images = 1 if plan.geo.flat else plan.geo.images
            image = least(block * items.images, images - items.images)
            _unpack(code, plan, StoredTensor(buffers.a, spec.a), rows, (image, band))
            writer = PlaceWriter(code, plan, end, sums, image, band)
            loops = _Item(code, plan, rows, weights, sums, writer)
            for runs in plan.panel.runs:
                loops.emit(runs, part)


def _unpack(
    code: Code, plan: AmxTapsPlan, source: StoredTensor, rows: Expr, place: tuple[Index, Index]
) -> None:
    """Fill scratch with the pixels that an item, at (image, band), needs, form after form."""
    items, pitch, (image, band) = plan.items, plan.pitch, place
    for number, form in enumerate(plan.forms):
        start = number * plan.form_elements
        wide, in_order = plan.spec.cpu.vector_bytes, plan.slots.in_order
        unpacker = Unpacker(code, source, form, wide, in_order)
        # What lies behind the last pixel meets weights of 0, and must be finite.
        end = start + plan.item_elements
        fill(code, rows, end, ROW_BYTES // plan.element_bytes, 0, ROW_BYTES)
        if pitch > plan.slots.count:
            fill(code, rows, start, plan.item_elements, 0, ROW_BYTES // plan.element_bytes)
        if plan.geo.flat:
            at = (0, 0, plan.first_pixel(band))
            unpacker.row(rows, Cells(start, pitch), at, items.columns, 1)
            continue
        whole = BandUnpacker(code, plan.rows, unpacker, pitch, 0)
        with code.loop(items.images) as i:
            to = start + i * (plan.image_pixels * pitch)
            size = (items.rows, items.columns)
            whole.unpack(rows, to, image + i, band * items.rows, size)


@dataclass(frozen=True, eq=False, slots=True)
class _Item:
    """The loops over the results of one item."""

    code: Code
    plan: AmxTapsPlan
    rows: Expr
    weights: Expr
    sums: Expr
    writer: PlaceWriter

    def emit(self, runs: Runs, part: Index) -> None:
        """The results of a phase for a part of the channels."""
        code, plan, down = self.code, self.plan, self.plan.grid.down
        each = -(-plan.blocks // plan.items.parts)
        row_bytes = runs.depth * plan.element_bytes
        a = TileShape(plan.lines.rows, row_bytes)
        b = TileShape(max(1, row_bytes // 4), ROW_OF_SUMS)
        c = TileShape(plan.lines.rows, ROW_OF_SUMS)
        with (
            tiles(code, plan.grid.shapes(a, b, c)),
            code.loop(each) as i,
            code.loop(-(-plan.tiles // down)) as group,
        ):
            block = least(part * each + i, plan.blocks - 1)
            numbers = [least(group * down + m, plan.tiles - 1) for m in range(down)]
            if runs.turns:
                self._group(runs, block, numbers)
            for m, number in enumerate(numbers):
                self.writer.tile(runs.phase, block, m, number)

    def _group(self, runs: Runs, block: Index, numbers: list[Index]) -> None:
        """The sums of a group of tiles of places, one form after the other."""
        code, plan = self.code, self.plan
        pixels = [code.let(self._pixel(number), "int32", "pixel") for number in numbers]
        for form in range(len(plan.forms)):
            plan.grid.zero(code, plan.grid.down)
            self._multiply(runs, block, pixels, form)
            plan.grid.store(code, self.sums, form * plan.grid.count, plan.grid.down)

    def _pixel(self, number: Index) -> Index:
        """The scratch pixel of the first place of a tile."""
        plan, lines = self.plan, self.plan.lines
        image, line, tile = place_of(plan, number)
        return image * plan.image_pixels + line * lines.pitch + tile * (ROWS * lines.step)

    def _multiply(self, runs: Runs, block: Index, pixels: list[Expr], form: int) -> None:
        """Add the products of all turns."""
        code, plan, grid, dot = self.code, self.plan, self.plan.grid, self.plan.spec.dot
        with (
            code.loop(runs.count[0]) as i,
            code.loop(runs.count[1]) as j,
            code.loop(runs.chunks) as chunk,
        ):
            turn = (i * runs.count[1] + j) * runs.chunks + chunk
            starts = [
                plan.panel.at(runs.phase.number, block * grid.across + n, turn)
                for n in range(grid.across)
            ]
            down, across = plan.rows.shift(runs.phase, (i, runs.tap(0, j)))
            shift = down * plan.width + across
            first, row_bytes = form * plan.form_elements, plan.lines.step * plan.pitch
            places = [(pixel + shift) * plan.pitch + chunk * runs.depth for pixel in pixels]
            a = [
                StoredTile(self.rows, first + place, row_bytes * plan.element_bytes)
                for place in places
            ]
            b = [StoredTile(self.weights, start, ROW_OF_SUMS) for start in starts]
            grid.multiply(code, (dot.a, dot.b), a, b)
