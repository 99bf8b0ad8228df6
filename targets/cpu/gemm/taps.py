"""Forward and dX GEMMs: convolutions that unpack a band of rows into cache and multiply by tiles.

for each image and band of rows, in parallel:
    unpack the rows that the band needs into scratch, with its borders
    for each block of output channels, phase, row, tile of pixels:
        accumulators of the tile over taps and channels, then the epilogue
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, load
from ..dialect import function
from .decode import numbers_of, zero_of
from .dots import multiply_add, prepare, repeated, word
from .epilogue import Epilogue, GemmBuffers, epilogue, put
from .geometry import Axis, Geometry, Tile, choose_tile, geometry
from .panel import Panel
from .rows import Rows
from .shapes import shape4
from .spec import Gemm, GemmSpec, ways
from .units import EVERY_DOT, IN_F32, IN_INT32, IN_INT64, Dot
from .unpack import StoredTensor, Unpacker
from .vectors import Registers, fill, least, splat, split

BYTES = {"uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "float32": 4, "int64": 8}
# Scratch of one band: a good part of the second-level cache. Items: enough for many threads.
BAND_BYTES, ITEMS, FLAT_PIXELS = 256 << 10, 16, 256


Memory: TypeAlias = tuple[Expr, Expr, Expr | None]  # first operand, panel, starts of sums
What: TypeAlias = tuple[Expr, Index, int]  # group, block of output channels, phase


@dataclass(frozen=True, slots=True)
class Bands:
    """How the work is cut: bands of ``rows`` x ``columns`` places, ``parts`` of the channels."""

    rows: int
    columns: int
    count: int
    parts: int


def _sums(gemm: Gemm) -> int | None:
    taps = not gemm.weight_grad and gemm.accumulation is None
    return gemm.length if taps and not gemm.depthwise else None


def depthwise_sums(gemm: Gemm) -> int | None:
    """See ``ways``: of forward and dX GEMMs in which every channel is a group."""
    taps = not gemm.weight_grad and gemm.accumulation is None
    return gemm.length if taps and gemm.depthwise else None


def _build(spec: GemmSpec) -> tir.PrimFunc:
    def body(code: Code, slots: list[Expr]) -> None:
        Taps(code, spec, GemmBuffers.of(spec, slots)).emit()

    return function(spec.parameters, body)


# Sums of depthwise GEMMs have a product a tap: no dot of several products is filled by them.
TAPS = (
    *ways("taps", _sums, EVERY_DOT, _build),
    *ways("depthwise taps", depthwise_sums, (IN_INT32, IN_INT64, IN_F32), _build),
)


class Taps:
    """The pieces of one kernel."""

    def __init__(self, code: Code, spec: GemmSpec, buffers: GemmBuffers) -> None:
        self.code, self.spec, self.buffers = code, spec, buffers
        self.dot: Dot = spec.dot
        self.geo: Geometry = geometry(spec)
        self.vector = spec.cpu.lanes
        self.source = StoredTensor(buffers.a, spec.a)
        self.out = StoredTensor(buffers.out, spec.out)
        self.unpacker = Unpacker(
            code,
            self.source,
            numbers_of(self.dot.a, self.dot.zero),
            spec.cpu.vector_bytes,
            spec.groups > 1,
        )
        self.panel = self._panel()
        self.pitch = self._pitch()
        self.rows = Rows(code, self.geo, self.unpacker, self.pitch, zero_of(self.dot))
        self.bands = self._bands()

    def _panel(self) -> Panel:
        groups = self.spec.lane_groups
        lanes = shape4(self.spec.out)[1] // groups
        length = self.source.shape[1] // groups
        slots = self.unpacker.slots if groups == 1 else length
        if self.spec.depthwise:
            length = slots = 1
        tile = self.tile(self.geo.columns.places, lanes)
        return Panel(
            self.code,
            StoredTensor(self.buffers.b, self.spec.b),
            self.dot,
            groups,
            lanes,
            length,
            tile.vectors * self.vector,
            -(-slots // self.dot.block),
            self.spec.direction == "input_grad" and not self.spec.depthwise,
            self.unpacker,
            self.buffers.b_scale if self.spec.scaled_rows else None,
        )

    def _pitch(self) -> int:
        """Scratch elements a pixel: the last group's blocks may reach beyond its channels."""
        p = self.panel
        return max(self.unpacker.slots, (p.groups - 1) * p.length + p.turns * self.dot.block)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of scratch a pixel."""
        return self.pitch * BYTES[self.dot.a]

    def _bands(self) -> Bands:
        geo, pixel = self.geo, self.pixel_bytes
        if geo.flat:
            tile = self._tile(geo.columns.phases[0])
            fair = -(-geo.width // ITEMS)
            room = min(FLAT_PIXELS, max(1, BAND_BYTES // pixel), max(fair, 2 * tile.pixels))
            columns = min(geo.width, -(-room // tile.pixels) * tile.pixels)
            return self._parts(1, columns, -(-geo.width // columns))
        low, high = geo.rows.reach
        line = self.rows.width(geo.columns.places) * pixel
        halo = (high - low) // self.rows.skip[0]
        room = max(1, (BAND_BYTES // line - halo) // self.rows.step[0])
        fair = -(-geo.rows.places // -(-ITEMS // geo.images))
        rows = min(geo.rows.places, room, max(fair, min(4, geo.rows.places)))
        return self._parts(rows, geo.columns.places, -(-geo.rows.places // rows))

    def _parts(self, rows: int, columns: int, count: int) -> Bands:
        wanted = -(-ITEMS // (count * self.geo.images))
        return Bands(rows, columns, count, min(self.panel.blocks, wanted))

    def tile(self, places: int, lanes: int) -> Tile:
        """Accumulators at work at once for rows of ``places`` with ``lanes`` channels."""
        return choose_tile(places, lanes, self.vector)

    def _tile(self, axis: Axis) -> Tile:
        vectors = self.panel.width // self.vector
        best = self.tile(axis.places, self.panel.lanes)
        if best.vectors == vectors:
            return best
        most = (30 if self.vector == 16 else 14) // vectors
        turns = -(-axis.places // most)
        return Tile(-(-axis.places // turns), vectors)

    def emit(self) -> None:
        """The whole kernel."""
        code = self.code
        prepare(code, self.dot)
        with (
            code.workspace(self.dot.b, self.panel.elements) as panel,
            self._starts(panel) as starts,
            epilogue(code, self.spec, self.buffers, self.vector) as end,
        ):
            items = self.geo.images * self.bands.count * self.bands.parts
            bands = self.bands
            size = self.band_elements + self.beyond
            with code.blocks(items) as item, code.workspace(self.dot.a, size) as rows:
                image, band, part = split(item, self.geo.images, bands.count, bands.parts)
                self._unpack(rows, image, band)
                with self.operand(rows) as first:
                    self._blocks((first, panel, starts), end, (image, band, part))

    @property
    def band_elements(self) -> int:
        """Elements of the pixels that a band needs."""
        bands = self.bands
        return self.rows.height(bands.rows) * self.rows.width(bands.columns) * self.pitch

    @property
    def beyond(self) -> int:
        """Elements behind them that may be read, and matter to nothing."""
        return 64

    @contextmanager
    def operand(self, rows: Expr) -> Iterator[Expr]:
        """What the dots read, made of unpacked ``rows``."""
        yield rows

    @contextmanager
    def _starts(self, panel: Expr) -> Iterator[Expr | None]:
        """Fill the panel; where zero is stored as another number, sums start from its opposite."""
        self.panel.fill(panel)
        if not self.dot.zero:
            yield None
            return
        with self.code.workspace("int32", self._phase_size() * len(self._phases())) as starts:
            for i, axes in enumerate(self._phases()):
                taps = [[a.first + t * a.step for t in range(a.taps)] for a in axes]
                self.panel.zero_sums(panel, starts, i * self._phase_size(), (taps[0], taps[1]))
            yield starts

    def _phase_size(self) -> int:
        return self.panel.groups * self.panel.blocks * self.panel.width

    def _phases(self) -> list[tuple[Axis, Axis]]:
        return [(r, c) for r in self.geo.rows.phases for c in self.geo.columns.phases]

    def _unpack(self, rows: Expr, image: Expr, band: Expr) -> None:
        if self.dot.acc == "float32" and self.pitch > self.unpacker.slots:
            # Behind the last channel a block meets weights of 0, and 0 times NaN is NaN.
            lanes = self.spec.cpu.vector_bytes // BYTES[self.dot.a]
            fill(self.code, rows, 0, self.band_elements, 0, lanes)
        if self.geo.flat:
            first = self._flat_start(band)
            self.unpacker.row(rows, 0, self.pitch, (0, 0, first), self.bands.columns, 1)
            return
        size = (self.bands.rows, self.bands.columns)
        self.rows.unpack(rows, 0, image, band * self.bands.rows, size)

    def _flat_start(self, band: Expr) -> Index:
        return least(band * self.bands.columns, self.geo.width - self.bands.columns)

    def _blocks(
        self,
        memory: Memory,
        end: Epilogue,
        item: tuple[Expr, Expr, Expr],
    ) -> None:
        code, panel = self.code, self.panel
        each = -(-panel.blocks // self.bands.parts)
        with code.loop(panel.groups) as g, code.loop(each) as i:
            block = least(item[2] * each + i, panel.blocks - 1)
            for number, axes in enumerate(self._phases()):
                self._phase(memory, end, item, (g, block, number), axes)

    def _phase(
        self,
        memory: Memory,
        end: Epilogue,
        item: tuple[Expr, Expr, Expr],
        what: What,
        axes: tuple[Axis, Axis],
    ) -> None:
        code, (rows, columns), (_, band, _) = self.code, axes, item
        count: Index = self.bands.rows
        if not self.geo.flat and rows.places != self.bands.rows * self.bands.count:
            left = least(rows.places - band * self.bands.rows, self.bands.rows)
            count = tir.max(left, 0)
        tile = self._tile(columns)
        places = self.bands.columns if self.geo.flat else columns.places
        with code.loop(count) as y, code.loop(-(-places // tile.pixels)) as t:
            x = least(t * tile.pixels, places - tile.pixels)
            sums = self._sums(memory, what, axes, tile, (y, x))
            self._store(sums, end, item, what, axes, tile, (y, x))

    def _sums(
        self,
        memory: Memory,
        what: What,
        axes: tuple[Axis, Axis],
        tile: Tile,
        place: tuple[Index, Index],
    ) -> Registers:
        dot, panel = self.dot, self.panel
        scratch, weights, starts = memory
        group, block, phase = what
        sums = Registers(self.code, (tile.pixels, tile.vectors), dot.acc, self.vector)
        for v in range(tile.vectors):
            start = splat(0, dot.acc, self.vector)
            if starts is not None:
                row = (group * panel.blocks + block) * panel.width + v * self.vector
                start = load(starts, phase * self._phase_size() + row, self.vector)
            for m in range(tile.pixels):
                sums.set(start, m, v)
        rows, columns = axes
        if rows.taps and columns.taps:
            self.products(sums, (scratch, weights), (group, block), axes, (tile, place))
        return sums

    def products(
        self,
        sums: Registers,
        memory: tuple[Expr, Expr],
        what: tuple[Index, Index],
        axes: tuple[Axis, Axis],
        where: tuple[Tile, tuple[Index, Index]],
    ) -> None:
        """Add the products over all taps and channels to the sums of a tile at a place."""
        code, dot, panel = self.code, self.dot, self.panel
        (scratch, weights), (group, block), (tile, place) = memory, what, where
        rows, columns = axes
        with (
            code.loop(rows.taps) as i,
            code.loop(columns.taps) as j,
            code.loop(panel.turns) as turn,
        ):
            pixel = self.scratch_pixel(axes, place, (i, j))
            at = self.weights_at((group, block), axes, (i, j), turn)
            lanes = self.vector * dot.block
            for m in range(tile.pixels):
                start = (pixel + m * self.rows.step[1]) * self.pitch
                for v in range(tile.vectors):
                    a = self._first(scratch, start, (group, block, turn), v)
                    b = load(weights, at + v * lanes, lanes)
                    sums.set(multiply_add(dot, sums.get(m, v), a, b, self.vector), m, v)

    def weights_at(
        self,
        what: tuple[Index, Index],
        axes: tuple[Axis, Axis],
        tap: tuple[Index, Index],
        turn: Index = 0,
    ) -> Index:
        """Where the weights of a phase's tap begin in the panel."""
        r, s = (axis.first + t * axis.step for axis, t in zip(axes, tap, strict=True))
        return self.panel.at(*what, r, s, turn)

    def _first(self, scratch: Expr, start: Index, what: tuple[Index, Index, Index], v: int) -> Expr:
        """The first operand at a pixel: a block of its channels, or lanes of them."""
        group, block, turn = what
        if self.spec.depthwise:
            lane = self.panel.first_lane(block) + v * self.vector
            return load(scratch, start + lane, self.vector)
        offset = group * self.panel.length + turn * self.dot.block
        return repeated(self.dot, word(self.dot, scratch, start + offset), self.vector)

    def scratch_pixel(
        self, axes: tuple[Axis, Axis], place: tuple[Index, Index], tap: tuple[Index, Index]
    ) -> Index:
        """Number of the scratch pixel that a tap reads for a place."""
        out = []
        for side, axis, p, t, skip in zip(
            (self.geo.rows, self.geo.columns), axes, place, tap, self.rows.skip, strict=True
        ):
            shift = (axis.offset - side.reach[0]) // skip + t * (axis.slope // skip)
            out.append(p * (side.stride // skip) + shift)
        return out[0] * self.rows.width(self.bands.columns) + out[1]

    def _store(
        self,
        sums: Registers,
        end: Epilogue,
        item: tuple[Expr, Expr, Expr],
        what: What,
        axes: tuple[Axis, Axis],
        tile: Tile,
        place: tuple[Index, Index],
    ) -> None:
        (image, band, _), (group, block, _), (y, x) = item, what, place
        lane = self.panel.first_lane(block)
        for m in range(tile.pixels):
            if self.geo.flat:
                at = (0, 0, self._flat_start(band) + x + m)
            else:
                step = (self.geo.rows.step, self.geo.columns.step)
                h = axes[0].origin + (band * self.bands.rows + y) * step[0]
                at = (image, h, axes[1].origin + (x + m) * step[1])
            for v in range(tile.vectors):
                first = lane + v * self.vector
                value = end.finish(sums.get(m, v), group * end.pitch + first)
                n = min(self.vector, self.panel.lanes)
                channel = group * self.panel.lanes + first
                put(self.code, self.out, at, channel, (value, self.vector, n))
