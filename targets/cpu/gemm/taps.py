"""Forward and dX GEMMs: convolutions that unpack a band of rows into cache and multiply by tiles.

for each image and band of rows, in parallel:
    unpack the rows that the band needs into scratch, with its borders
    for each block of output channels, phase, row, tile of pixels:
        accumulators of the tile over taps and channels, then the epilogue
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...gemm.geometry import Phase
from ...tir.expr import Code, Expr, Index
from ..dialect import function
from .cells import Cells
from .decode import numbers_of, zero_of
from .dots import prepare
from .epilogue import Epilogue, GemmBuffers, epilogue, put
from .panel_writer import PanelWriter
from .products import EachTap, Factors, InRuns, Patch, Products
from .rows import BandUnpacker
from .spec import GemmSpec
from .starts import Starts, starts
from .sums import TileSums, sums_of
from .taps_plan import BYTES, TapsPlan, plan_taps
from .unpack import StoredTensor, Unpacker
from .vectors import fill, least, split


def build_taps(spec: GemmSpec) -> tir.PrimFunc:
    """The function of a forward or dX GEMM."""

    def body(code: Code, slots: list[Expr]) -> None:
        plan = plan_taps(spec)
        products = InRuns(code, plan) if spec.dot.run else EachTap(code, plan)
        emit_taps(code, plan, GemmBuffers.of(spec, slots), products)

    return function(spec.parameters, body)


def emit_taps(code: Code, plan: TapsPlan, buffers: GemmBuffers, products: Products) -> None:
    """The whole kernel of a plan."""
    spec, bands = plan.spec, plan.bands
    prepare(code, spec.dot)
    with code.workspace(spec.dot.b, plan.panel.elements) as weights:
        row_scale = buffers.b_scale if spec.scaled_rows else None
        stored = StoredTensor(buffers.b, spec.b)
        PanelWriter(code, spec, plan.panel, stored, plan.slots, row_scale).fill(weights)
        with (
            starts(code, plan, weights) as begin,
            epilogue(code, spec, buffers, plan.vector) as end,
            code.blocks(plan.items) as item,
            code.workspace(spec.dot.a, plan.scratch_elements) as rows,
        ):
            image, band, part = split(item, plan.geo.images, bands.count, bands.parts)
            _unpack(code, plan, StoredTensor(buffers.a, spec.a), rows, (image, band))
            with products.pixels(rows) as pixels:
                factors = Factors(pixels, weights)
                _Band(code, plan, products, factors, begin, end, image, band).emit(part)


def _unpack(
    code: Code, plan: TapsPlan, source: StoredTensor, rows: Expr, place: tuple[Expr, Expr]
) -> None:
    """Fill scratch with the pixels that a band, at (image, band), needs."""
    spec, bands, (image, band) = plan.spec, plan.bands, place
    numbers = numbers_of(spec.dot.a, spec.dot.zero)
    unpacker = Unpacker(code, source, numbers, spec.cpu.vector_bytes, plan.slots.in_order)
    if spec.dot.acc == "float32" and plan.pitch > plan.slots.count:
        # Behind the last channel a block meets weights of 0, and 0 times NaN is NaN.
        fill(code, rows, 0, plan.band_elements, 0, spec.cpu.vector_bytes // BYTES[spec.dot.a])
    if plan.geo.flat:
        first = plan.first_pixel(band)
        unpacker.row(rows, Cells(0, plan.pitch), (0, 0, first), bands.columns, 1)
        return
    size = (bands.rows, bands.columns)
    whole = BandUnpacker(code, plan.rows, unpacker, plan.pitch, zero_of(spec.dot))
    whole.unpack(rows, 0, image, band * bands.rows, size)


@dataclass(frozen=True, eq=False, slots=True)
class _Band:
    """The loops over the results of one band of an image."""

    code: Code
    plan: TapsPlan
    products: Products
    factors: Factors
    starts: Starts
    end: Epilogue
    image: Expr
    band: Expr

    def emit(self, part: Expr) -> None:
        """All phases of a part of the channels."""
        code, panel, spec = self.code, self.plan.panel, self.plan.spec
        each = -(-panel.blocks // self.plan.bands.parts)
        with code.loop(spec.lane_groups) as group, code.loop(each) as i:
            block = least(part * each + i, panel.blocks - 1)
            weights = self.image if spec.batch > 1 else group
            for phase in self.plan.geo.phases:
                self._phase((group, weights), block, phase)

    def _phase(self, groups: tuple[Index, Index], block: Index, phase: Phase) -> None:
        """All patches of a phase and block of channels; see ``Patch`` for both groups."""
        code, plan, tile = self.code, self.plan, self.plan.tiles[phase.number]
        places = plan.bands.columns if plan.geo.flat else phase.columns.places
        with (
            code.loop(self._rows(phase)) as y,
            code.loop(-(-places // tile.pixels)) as t,
        ):
            x = least(t * tile.pixels, places - tile.pixels)
            patch = Patch(*groups, block, phase, tile, y, x)
            self._store(self._sums(patch), patch)

    def _rows(self, phase: Phase) -> Index:
        """Rows of places that a phase has in the band."""
        rows, places = self.plan.bands.rows, phase.rows.places
        if self.plan.geo.flat or places == rows * self.plan.bands.count:
            return rows
        return tir.max(least(places - self.band * rows, rows), 0)

    def _sums(self, patch: Patch) -> TileSums:
        tile, plan = patch.tile, self.plan
        sums = sums_of(self.code, plan.spec.dot, (tile.pixels, tile.vectors), plan.vector)
        for v in range(tile.vectors):
            start = self.starts.vector(patch.phase, patch.weights, patch.block, v)
            for m in range(tile.pixels):
                sums.begin(start, m, v)
        if patch.phase.taps:
            self.products.add(sums, self.factors, patch)
        return sums

    def _store(self, sums: TileSums, patch: Patch) -> None:
        """Finish and store the sums of a patch."""
        plan, end = self.plan, self.end
        lanes, vector = plan.panel.lanes, plan.vector
        out = StoredTensor(end.buffers.out, plan.spec.out)
        for m in range(patch.tile.pixels):
            at = self._output(patch, m)
            for v in range(patch.tile.vectors):
                first = plan.panel.first_lane(patch.block) + v * vector
                value = end.finish(sums.total(m, v), patch.group * end.pitch + first)
                some = (value, vector, min(vector, lanes))
                put(self.code, out, at, patch.group * lanes + first, some)

    def _output(self, patch: Patch, m: int) -> tuple[Index, Index, Index]:
        """Image, row and column of the result at pixel ``m`` of a patch."""
        plan = self.plan
        if plan.geo.flat:
            return 0, 0, plan.first_pixel(self.band) + patch.x + m
        y = self.band * plan.bands.rows + patch.y
        return self.image, *plan.geo.output(patch.phase, y, patch.x + m)
