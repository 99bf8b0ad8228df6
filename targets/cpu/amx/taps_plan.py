"""How a forward or dX GEMM on AMX is cut, as data that follow from its spec alone.

rows, slots, forms   scratch that an item's pixels are unpacked to, one form after the other
panel                the weights as B tiles
items, lines         what threads share, and its places as A tiles
grid                 tiles at work at once
"""

from __future__ import annotations

from dataclasses import dataclass

from ...gemm.geometry import Geometry, geometry
from ...gemm.shapes import channels_last, shape4
from ...plan.layout import Layout
from ...tir.expr import Index
from ..gemm.decode import Numbers
from ..gemm.rows import Rows
from ..gemm.slots import Slots
from ..gemm.spec import GemmSpec
from ..gemm.vectors import least
from .grid import TILE_SUMS, TileGrid
from .items import Items, Lines, items_of, lines_of
from .panel import AmxPanel, Runs
from .planes import planes
from .tiles import ROW_BYTES, ROWS


@dataclass(frozen=True, slots=True)
class AmxTapsPlan:
    """The plan of one kernel, see above; ``forms`` are the planes of the first operand."""

    spec: GemmSpec
    geo: Geometry
    rows: Rows
    slots: Slots
    pitch: int  # scratch elements of a pixel, with spare ones
    forms: tuple[Numbers, ...]
    panel: AmxPanel
    items: Items
    lines: Lines
    grid: TileGrid

    @property
    def element_bytes(self) -> int:
        """Bytes of a scratch element."""
        return 4 // self.spec.dot.block

    @property
    def blocks(self) -> int:
        """Blocks of output channels: those of the grid's B tiles."""
        return self.panel.tiles // self.grid.across

    @property
    def width(self) -> int:
        """Scratch pixels of a row."""
        return self.rows.width(self.items.columns)

    @property
    def image_pixels(self) -> int:
        """Scratch pixels of an image of an item."""
        return self.rows.height(self.items.rows) * self.width

    @property
    def item_elements(self) -> int:
        """Scratch elements of the images of an item, in one form."""
        return self.items.images * self.image_pixels * self.pitch

    @property
    def form_elements(self) -> int:
        """Those with what tiles and runs may read behind them."""
        return self.item_elements + (ROWS * self.lines.step + 1) * self.pitch + ROW_BYTES

    @property
    def tiles(self) -> int:
        """Tiles of places of an item."""
        return self.items.images * self.lines.lines * self.lines.tiles

    @property
    def sums(self) -> int:
        """Sums of a group of tiles, all planes."""
        return len(self.forms) * self.grid.count * TILE_SUMS

    def first_pixel(self, band: Index) -> Index:
        """The first pixel of a band of a flat image; the last bands overlap."""
        return least(band * self.items.columns, self.geo.width - self.items.columns)


def plan_amx_taps(spec: GemmSpec) -> AmxTapsPlan:
    """The plan for a spec."""
    geo = geometry(spec)
    rows, forms = Rows(geo), planes(spec.a.type.format, spec.dot.a)
    slots = Slots(spec.a, forms[0].width, _in_order(spec.a, spec.b))
    element_bytes = 4 // spec.dot.block
    runs = _runs(geo, slots.count, element_bytes, spec.dot.acc == "float32")
    pitch = runs[0].pitch
    panel = AmxPanel(shape4(spec.out)[1], runs)
    across = 2 if panel.tiles % 2 == 0 else 1
    items = items_of(geo, rows, pitch * element_bytes, panel.tiles // across)
    lines = lines_of(items, rows)
    grid = TileGrid.of(items.images * lines.lines * lines.tiles, across)
    return AmxTapsPlan(spec, geo, rows, slots, pitch, forms, panel, items, lines, grid)


def _runs(geo: Geometry, slots: int, element_bytes: int, floats: bool) -> tuple[Runs, ...]:
    """The runs of each phase. Tiles may read behind a run, where weights are 0.

    Not so of floats: there the next pixel lies, and 0 * infinity is NaN.
    """
    pitch = slots
    while True:
        runs = tuple(Runs(phase, pitch, element_bytes) for phase in geo.phases)
        if not floats or all(r.chunks * r.depth == r.elements for r in runs):
            return runs
        pitch += 1


def _in_order(source: Layout, weights: Layout) -> bool:
    """Whether channels must lie in their own order in scratch.

    They may lie side by side, as bytes hold them, where both operands have the channels of a pixel
    in the same bytes, and where a slot that no channel fills holds the number 0.
    """
    alike = source.parts == weights.parts and channels_last(source) == channels_last(weights)
    uneven = shape4(source)[1] % source.parts != 0 and source.type.format.decode(0) != 0
    return uneven or not alike
