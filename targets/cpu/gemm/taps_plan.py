"""How a forward or dX GEMM on vectors is cut, as data that follow from its spec alone.

rows, slots, pitch   scratch that a band of input rows is unpacked to, with its borders
panel                the decoded weights
tiles                accumulators at work at once, for each phase
bands                the items that threads share
"""

from __future__ import annotations

from dataclasses import dataclass

from ...gemm.geometry import Geometry, Phase, geometry
from ...gemm.shapes import shape4
from ...tir.expr import Index
from .decode import numbers_of
from .panel import Panel
from .rows import Rows
from .slots import Slots
from .spec import GemmSpec
from .tile import Tile, choose_tile, registers
from .vectors import least

BYTES = {"uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "float32": 4, "int64": 8}
WORD_BYTES = 4
# Scratch of one band: a good part of the second-level cache. Items: enough for many threads.
BAND_BYTES, ITEMS, FLAT_PIXELS, FEW_TILES = 256 << 10, 16, 256, 4
# Elements behind a band that the last tile may read; they matter to nothing.
BEYOND = 64
PAIR_PIXELS = 8


@dataclass(frozen=True, slots=True)
class Bands:
    """``count`` bands of ``rows`` x ``columns`` places an image, in ``parts`` of the channels."""

    rows: int
    columns: int
    count: int
    parts: int


@dataclass(frozen=True, slots=True)
class TapsPlan:
    """The plan of one kernel, see above; ``tiles`` are those of ``geo.phases``.

    ``partner`` is the distance of the two pixels that a word of the first operand holds, in scratch
    pixels; 0 where it holds elements of one.
    """

    spec: GemmSpec
    geo: Geometry
    rows: Rows
    slots: Slots
    pitch: int
    partner: int
    panel: Panel
    tiles: tuple[Tile, ...]
    bands: Bands

    @property
    def vector(self) -> int:
        """Lanes of a vector of sums."""
        return self.spec.cpu.lanes

    @property
    def items(self) -> int:
        """Bands of all images, and parts of the channels of each."""
        return self.geo.images * self.bands.count * self.bands.parts

    @property
    def band_elements(self) -> int:
        """Scratch elements of the pixels that a band needs."""
        bands = self.bands
        return self.rows.height(bands.rows) * self.rows.width(bands.columns) * self.pitch

    @property
    def scratch_elements(self) -> int:
        """Those with what may be read behind them: the last pixels have partners too."""
        return self.band_elements + BEYOND + self.partner * self.pitch

    def first_pixel(self, band: Index) -> Index:
        """The first pixel of a band of a flat image; the last bands overlap."""
        return least(band * self.bands.columns, self.geo.width - self.bands.columns)

    def pixel(self, phase: Phase, place: tuple[Index, Index], tap: tuple[Index, Index]) -> Index:
        """Number of the scratch pixel that a tap of a phase reads for a place of a band."""
        shift = self.rows.shift(phase, tap)
        y, x = (p * step + s for p, step, s in zip(place, self.rows.step, shift, strict=True))
        return y * self.rows.width(self.bands.columns) + x


def plan_taps(spec: GemmSpec, *, pairs: bool = False) -> TapsPlan:
    """The plan for a spec; ``pairs`` asks for words of two pixels, see ``depthwise``."""
    geo = geometry(spec)
    rows, slots = Rows(geo), _slots(spec)
    lanes, vector = shape4(spec.out)[1] // spec.lane_groups, spec.cpu.lanes

    def choose(places: int) -> Tile:
        return _pair_tile(places) if pairs else choose_tile(places, lanes, vector, spec.dot)

    panel = _panel(spec, slots, choose(geo.columns.places).vectors * vector)
    most = registers(spec.dot, vector) - 1
    tiles = tuple(
        _fitted(choose(phase.columns.places), phase, panel.width // vector, most)
        for phase in geo.phases
    )
    # The last group's blocks may reach beyond its channels.
    pitch = max(slots.count, (spec.lane_groups - 1) * panel.length + panel.turns * panel.depth)
    pixel_bytes = pitch * (BYTES[spec.dot.a] + (WORD_BYTES if pairs else 0))
    partner = _partner(rows) if pairs else 0
    bands = _bands(rows, panel, tiles[0], pixel_bytes)
    return TapsPlan(spec, geo, rows, slots, pitch, partner, panel, tiles, bands)


def _slots(spec: GemmSpec) -> Slots:
    """Slots of a pixel of the first operand."""
    return Slots(spec.a, numbers_of(spec.dot.a, spec.dot.zero).width, spec.groups > 1)


def _panel(spec: GemmSpec, slots: Slots, width: int) -> Panel:
    """The panel with ``width`` lanes a block."""
    groups, depth = spec.lane_groups, spec.dot.block
    _, _, r, s = shape4(spec.b)
    length = 1 if spec.depthwise else slots.channels // groups
    summed = slots.count if groups == 1 and not spec.depthwise else length
    lanes = shape4(spec.out)[1] // groups
    return Panel(groups * spec.batch, lanes, length, width, -(-summed // depth), depth, (r, s))


def _pair_tile(places: int) -> Tile:
    """Pixels of one vector of channels, whose weights stay in registers too."""
    turns = -(-places // PAIR_PIXELS)
    return Tile(-(-places // turns), 1)


def _fitted(best: Tile, phase: Phase, vectors: int, registers: int) -> Tile:
    """The best tile of a phase, or one that fits the panel, which all phases share."""
    if best.vectors == vectors:
        return best
    most = max(1, registers // vectors - 1)
    turns = -(-phase.columns.places // most)
    return Tile(-(-phase.columns.places // turns), vectors)


def _partner(rows: Rows) -> int:
    """Scratch pixels between two taps of a row; all phases of a convolution have one slope."""
    slopes = {abs(axis.slope) for axis in rows.geo.columns.phases if axis.taps > 1}
    return max(slopes, default=1) // rows.skip[1]


def _bands(rows: Rows, panel: Panel, tile: Tile, pixel_bytes: int) -> Bands:
    """Bands whose scratch fits in cache, and small enough to be shared by many threads."""
    geo = rows.geo
    if geo.flat:
        fair = -(-geo.width // ITEMS)
        # Each band reads the whole panel: it has some tiles, however long its pixels are.
        room = max(FEW_TILES * tile.pixels, BAND_BYTES // pixel_bytes)
        room = min(FLAT_PIXELS, room, max(fair, 2 * tile.pixels))
        height, width = 1, min(geo.width, -(-room // tile.pixels) * tile.pixels)
        count = -(-geo.width // width)
    else:
        line = rows.width(geo.columns.places) * pixel_bytes
        halo = rows.height(1) - 1
        room = max(1, (BAND_BYTES // line - halo) // rows.step[0])
        fair = -(-geo.rows.places // -(-ITEMS // geo.images))
        height = min(geo.rows.places, room, max(fair, min(4, geo.rows.places)))
        width = geo.columns.places
        count = -(-geo.rows.places // height)
    return Bands(height, width, count, min(panel.blocks, -(-ITEMS // (count * geo.images))))
