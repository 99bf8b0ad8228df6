"""Places: from the sums of a tile of places to the stored results, one place after the other."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.formats import BF16
from ...gemm.geometry import Phase
from ...tir.expr import Code, Expr, Index, i32, load
from ..gemm.epilogue import Epilogue, put
from ..gemm.unpack import StoredTensor
from ..gemm.vectors import least, splat, split
from .planes import joined
from .taps_plan import AmxTapsPlan
from .tiles import COLUMNS, ROWS


@dataclass(frozen=True, eq=False, slots=True)
class PlaceWriter:
    """Finishes the ``sums`` of an item: places of a ``band`` of the images from ``image`` on."""

    code: Code
    plan: AmxTapsPlan
    end: Epilogue
    sums: Expr
    image: Index
    band: Index

    @property
    def out(self) -> StoredTensor:
        """The result."""
        return StoredTensor(self.end.buffers.out, self.plan.spec.out)

    def tile(self, phase: Phase, block: Index, m: int, number: Index) -> None:
        """Store a tile of places: the ``m``-th of its group, of a ``number`` in the item."""
        code, plan, lines = self.code, self.plan, self.plan.lines
        width = plan.items.columns if plan.geo.flat else phase.columns.places
        rows = self._rows(phase)
        image, line, first = place_of(plan, number)
        whole = not lines.row and width % ROWS == 0
        together = 2 if whole and self._touch and plan.panel.lanes == COLUMNS else 1
        with code.loop(lines.rows // together) as turn:
            place = first * ROWS + turn * together
            y, x = line, place
            if lines.row:
                y, x = tir.floordiv(place, lines.row), tir.floormod(place, lines.row)
            border = [] if whole else [x < width]
            border += [y < rows] if lines.row or not isinstance(rows, int) else []
            with code.when(tir.all(*border)) if border else nullcontext():
                totals = [
                    self._total(phase, m * plan.grid.across + n, turn * together + row)
                    for row in range(together)
                    for n in range(plan.grid.across)
                ]
                self._put(self._output(phase, image, y, x), block, totals)

    def _rows(self, phase: Phase) -> Index:
        """Rows of places that a phase has in the band."""
        rows, places = self.plan.items.rows, phase.rows.places
        if self.plan.geo.flat or places == rows * self.plan.items.count:
            return rows
        return least(places - self.band * rows, rows)

    def _output(self, phase: Phase, image: Index, y: Index, x: Index) -> tuple[Index, Index, Index]:
        """Image, row and column of the result at a place of an image of the item."""
        plan = self.plan
        if plan.geo.flat:
            return 0, 0, plan.first_pixel(self.band) + x
        h, w = plan.geo.output(phase, self.band * plan.items.rows + y, x)
        return self.image + image, h, w

    def _total(self, phase: Phase, tile: int, row: Index) -> Expr:
        """A vector of sums over both planes."""
        plan, acc = self.plan, self.plan.spec.dot.acc
        if not phase.taps:
            return splat(0, acc, COLUMNS)
        low = load(self.sums, (tile * ROWS + row) * COLUMNS, COLUMNS)
        if len(plan.forms) == 1:
            return low
        tile += plan.grid.count
        high = load(self.sums, (tile * ROWS + row) * COLUMNS, COLUMNS)
        return joined(low, high, acc, COLUMNS)

    @property
    def _touch(self) -> bool:
        """Whether neighbouring tiles of bf16 channels, or places of one tile, touch in memory."""
        panel = self.plan.panel
        near = panel.tiles > 1 or self.plan.geo.columns.step == 1
        bf16 = self.out.format is BF16 and self.out.pixels
        return bf16 and near and panel.lanes % COLUMNS == 0

    def _put(self, at: tuple[Index, Index, Index], block: Index, totals: list[Expr]) -> None:
        """Store the channels of a block at a place, or of one tile at two places."""
        panel, across = self.plan.panel, self.plan.grid.across
        firsts = [panel.first_lane(block * across + i % across) for i in range(len(totals))]
        if self._touch and len(totals) == 2:
            both = self.end.finish_two(totals, firsts)
            put(self.code, self.out, at, firsts[0], (both, 2 * COLUMNS, 2 * COLUMNS))
            return
        some = min(COLUMNS, panel.lanes)
        for total, first in zip(totals, firsts, strict=True):
            value = self.end.finish(total, first)
            put(self.code, self.out, at, first, (value, COLUMNS, some))


def place_of(plan: AmxTapsPlan, number: Index) -> list[Expr]:
    """Image, line and tile of a line of a tile of places."""
    return split(i32(0) + number, plan.items.images, plan.lines.lines, plan.lines.tiles)
