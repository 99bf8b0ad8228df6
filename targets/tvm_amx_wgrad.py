"""Weight gradients on AMX: sums over pixels of g times x, by chunks of pixels.

for each chunk:
    unpack x and g of its pixels; turn x into rows of pixels (A tiles), g into words (B tiles)
    for each group of taps and channels of x, and block of channels of g:
        products over the chunk's pixels; a tap is a shift of x; sums added to the partial ones
add the partitions in order, apply the factor, round and store
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from .tvm_amx_chunks import AmxChunks, choose_amx_chunks
from .tvm_amx_ir import COLUMNS, ROWS, TILES, TileShape, dot, load_tile, store_tile, tiles, zero_tile
from .tvm_amx_numbers import PLANE_BITS, planes
from .tvm_amx_words import PixelScratch
from .tvm_expr import Code, Expr, Index, function, i32
from .tvm_gemm import GemmSpec
from .tvm_gemm_epilogue import Buffers
from .tvm_gemm_finish import Finish, Partial
from .tvm_gemm_ir import cast, fill, load, parallel, splat, split, store
from .tvm_gemm_numbers import fits_int32, integers
from .tvm_gemm_shapes import shape4
from .tvm_gemm_unpack import Operand, Unpacker

LINE, MOST = 64, 4


@dataclass(frozen=True, eq=False, slots=True)
class _Memory:
    """Scratch of a chunk: unpacked pixels of both operands, and their tiles."""

    x_pixels: Expr
    g_pixels: Expr
    x: Expr
    g: Expr


@dataclass(frozen=True, slots=True)
class _RowsOf:
    """``count`` rows of a chunk, of which row y is ``place(y)`` of the tensor's ``end``; their
    pixels lie ``step`` apart from ``column`` on, of ``columns`` in all."""

    count: int
    end: int
    place: Callable[[Index], Index]
    column: int
    step: int
    columns: int


def build_amx_weight_grad(spec: GemmSpec) -> tir.PrimFunc:
    """The function of a weight gradient."""

    def body(code: Code, slots: list[Expr]) -> None:
        _AmxWeightGrad(code, spec, Buffers.of(spec, slots)).emit()

    return function(spec.parameters, body)


class _AmxWeightGrad:
    """The pieces of one kernel."""

    def __init__(self, code: Code, spec: GemmSpec, buffers: Buffers) -> None:
        self.code, self.spec, self.buffers, self.dot = code, spec, buffers, spec.dot
        g, x = Operand(buffers.a, spec.a), Operand(buffers.b, spec.b)
        wide = spec.cpu.vector_bytes
        forms = planes(g.format, self.dot.a)
        self.planes = len(forms)
        g_unpackers = [Unpacker(code, g, n, wide, False) for n in forms]
        x_unpacker = Unpacker(code, x, planes(x.format, self.dot.b)[0], wide, False)
        _, _, r, s = shape4(spec.out)
        self.taps = (r, s)
        x_tiles, g_tiles = (-(-u.slots // COLUMNS) for u in (x_unpacker, g_unpackers[0]))
        partial = Partial(1, 1, self.taps, x_tiles * ROWS, g_tiles * COLUMNS, self._sum_type())
        bytes_ = (x_tiles * 2 + 2 * g_tiles * self.planes) * COLUMNS * (4 // self.dot.block)
        self.chunks: AmxChunks = choose_amx_chunks(spec, bytes_, partial.elements * 4)
        c, step = self.chunks, ROWS * self.dot.block
        self.room = -(-c.pixels // step) * step
        room_x = -(-(self.room + c.reach) // step) * step
        column = c.places[2]
        self.gs = [PixelScratch(code, u, c.pixels, self.room, column) for u in g_unpackers]
        pixels_x = c.height * c.width * c.images
        self.x = PixelScratch(code, x_unpacker, pixels_x, max(room_x, pixels_x), column)
        self.partial = Partial(
            c.partitions, 1, self.taps, partial.channels, partial.lanes, partial.dtype
        )

    def _sum_type(self) -> str:
        """Type of the partial sums: int64 where int32 could overflow over all pixels."""
        a, b = (integers(x.type.format) for x in (self.spec.a, self.spec.b))
        if self.dot.acc != "int32" or a is None or b is None:
            return self.dot.acc
        return "int32" if fits_int32(a, b, self.spec.length) else "int64"

    @property
    def g(self) -> PixelScratch:
        """Of the first plane; all have one shape."""
        return self.gs[0]

    @property
    def _x_pitch(self) -> int:
        """Elements a slot of x's columns; an odd number of cache lines, so that slots spread."""
        line = LINE * 8 // self.x.unpacker.numbers.width
        return (-(-self.x.room // line) | 1) * line

    @property
    def _phases(self) -> int:
        return self.chunks.down.phases * self.chunks.across.phases

    @property
    def _g_tile(self) -> int:
        """Elements of sixteen channels of g, one plane."""
        return self.room * COLUMNS

    @property
    def _across(self) -> int:
        """B tiles at work at once: both planes, or two blocks of channels."""
        return 2 if self.planes == 2 or self.g.tiles % 2 == 0 else 1

    @property
    def _down(self) -> int:
        """A tiles at work at once."""
        return MOST // self._across

    def emit(self) -> None:
        """The whole kernel."""
        code, chunks, elements = self.code, self.chunks, self.partial.elements
        with code.workspace(self.partial.dtype, chunks.partitions * elements) as partial:
            if chunks.shared:
                self._clear(partial, 0)
                with self._scratch() as memory, code.loop(chunks.count) as chunk:
                    self._chunk(memory, partial, i32(0), chunk)
            else:
                with parallel(code, chunks.partitions) as p, self._scratch() as memory:
                    self._clear(partial, p * elements)
                    with code.loop(chunks.each) as i:
                        chunk = p * chunks.each + i
                        with code.when(chunk < chunks.count):
                            self._chunk(memory, partial, p, chunk)
            g, x = self.g.unpacker, self.x.unpacker
            Finish(code, self.spec, self.buffers, self.partial, g, x, COLUMNS).emit(partial)

    def _clear(self, partial: Expr, start: Index) -> None:
        """Set the sums of a partition to 0, unless its only chunk writes them."""
        if not self.chunks.direct:
            fill(self.code, partial, start, self.partial.elements, 0, COLUMNS)

    @contextmanager
    def _scratch(self) -> Iterator[_Memory]:
        x = self._phases * self.x.tiles * ROWS * self._x_pitch
        g = self.planes * self.g.tiles * self._g_tile
        with (
            self.code.workspace(self.dot.b, self.x.elements) as x_pixels,
            self.code.workspace(self.dot.a, self.g.elements) as g_pixels,
            self.code.workspace(self.dot.b, x) as x_tiles,
            self.code.workspace(self.dot.a, g) as g_tiles,
        ):
            yield _Memory(x_pixels, g_pixels, x_tiles, g_tiles)

    def _loop(self, count: int) -> AbstractContextManager[Expr]:
        """A loop within a chunk: where chunks are worked on one after the other, by all threads."""
        return parallel(self.code, count) if self.chunks.shared else self.code.loop(count)

    def _chunk(self, memory: _Memory, partial: Expr, partition: Index, chunk: Index) -> None:
        chunks, grid = self.chunks, self.chunks.grid
        block, band = split(chunk, -(-grid.images // chunks.images), chunks.bands)
        first = (block * chunks.images, band * chunks.rows)
        self._prepare_x(memory, first)
        self._prepare_g(memory, first)
        combinations = self.taps[0] * self.taps[1] * self.x.tiles
        whole, rest = divmod(combinations, self._down)
        blocks = self.g.tiles * self.planes // self._across
        for begin, groups, down in ((0, whole, self._down), (whole * self._down, 1, rest)):
            if not groups or not down:
                continue
            inner = 1 if chunks.shared else groups
            with self._loop(blocks * (groups // inner)) as job, self._sums(down) as sums:
                k, group = split(job, blocks, groups // inner)
                with self.code.loop(inner) as i:
                    at = begin + (group * inner + i) * down
                    self._group(memory, sums, (k, at, down))
                    self._add(sums, partial, partition, (k, at, down))

    @contextmanager
    def _sums(self, down: int) -> Iterator[Expr]:
        """Memory for the sums of a group of tiles, and the tile registers."""
        rows = min(ROWS, self.x.slots)
        c, b = TileShape(rows), TileShape()
        shapes = [*[c] * (down * self._across), *[b] * self._across]
        shapes += [c] * min(down, TILES - len(shapes))
        size = down * self._across * ROWS * COLUMNS
        with self.code.workspace(self.dot.acc, size) as sums, tiles(self.code, shapes):
            yield sums

    def _prepare_x(self, memory: _Memory, first: tuple[Index, Index]) -> None:
        code, chunks, x = self.code, self.chunks, self.x
        _, _, height, width = shape4(self.spec.b)
        if chunks.grid.flat:
            height, width = 1, chunks.grid.columns
        for phase in range(self._phases):
            down, across = divmod(phase, chunks.across.phases)

            def place(row: Index, down: int = down) -> Index:
                return row * chunks.down.stride + (down - chunks.down.padding)

            column = across - chunks.across.padding
            step = chunks.across.stride
            rows = _RowsOf(chunks.height, height, place, column, step, width)
            self._unpack(x, memory.x_pixels, first, rows)
            with self._loop(x.tiles) as tile:
                begin = (phase * x.tiles + tile) * (ROWS * self._x_pitch)
                x.columns(memory.x_pixels, 0, tile, memory.x, lambda i: begin + i * self._x_pitch)

    def _prepare_g(self, memory: _Memory, first: tuple[Index, Index]) -> None:
        grid = self.chunks.grid
        rows = _RowsOf(self.chunks.rows, grid.rows, lambda row: row, 0, 1, grid.columns)
        for plane, g in enumerate(self.gs):
            self._unpack(g, memory.g_pixels, first, rows)
            with self._loop(g.tiles) as tile:
                place = (plane * g.tiles + tile) * self._g_tile
                g.words(memory.g_pixels, 0, tile, memory.g, place)

    def _unpack(
        self, scratch: PixelScratch, to: Expr, first: tuple[Index, Index], rows: _RowsOf
    ) -> None:
        """The pixels of a chunk; images and rows beyond the last are 0."""
        code, chunks, grid = self.code, self.chunks, self.chunks.grid
        at_image, at_row, _ = chunks.places
        scratch.clear_end(to, 0)
        with self._loop(chunks.images * rows.count) as job:
            i, y = split(job, chunks.images, rows.count)
            image, row = first[0] + i, code.let(rows.place(first[1] + y), "int32", "row")
            start = (i * at_image + y * at_row) * scratch.slots
            inside = tir.all(image < grid.images, row >= 0, row < rows.end)
            with code.when(inside):
                at: tuple[Index, Index, Index] = (image, row, rows.column)
                if grid.flat:
                    at = (0, 0, image * grid.columns)
                scratch.row(to, start, at, chunks.width, rows.step, rows.columns)
            with code.when(tir.Not(inside)):
                scratch.blank(to, start, chunks.width)

    def _group(self, memory: _Memory, sums: Expr, what: tuple[Index, Index, int]) -> None:
        """Sums of ``down`` combinations of tap and channels of x with a block of g's channels."""
        code, (k, at, down) = self.code, what
        count = down * self._across
        b_tiles = range(count, count + self._across)
        a_tiles = range(count + self._across, min(TILES, count + self._across + down))
        starts = [code.let(self._x_start(at + m), "int32", "x") for m in range(down)]
        for tile in range(count):
            zero_tile(code, tile)
        step, element_bytes = self.g.step, 4 // self.dot.block
        with code.loop(self.room // step) as turn:
            for n, b in enumerate(b_tiles):
                start = self._g_start(k, n) + turn * (step * COLUMNS)
                load_tile(code, b, memory.g, start, LINE)
            for m, start in enumerate(starts):
                a = a_tiles[m % len(a_tiles)]
                load_tile(code, a, memory.x, start + turn * step, self._x_pitch * element_bytes)
                for n, b in enumerate(b_tiles):
                    dot(code, self.dot.b, self.dot.a, m * self._across + n, a, b)
        for tile in range(count):
            store_tile(code, tile, sums, tile * (ROWS * COLUMNS), COLUMNS * 4)

    def _g_start(self, k: Index, n: int) -> Index:
        if self.planes == 2:
            return (n * self.g.tiles + k) * self._g_tile
        return (k * self._across + n) * self._g_tile

    def _combination(self, number: Index) -> list[Expr]:
        """Tap row, tap column and block of channels of x."""
        return split(number, *self.taps, self.x.tiles)

    def _x_start(self, number: Index) -> Index:
        chunks = self.chunks
        r, s, c = self._combination(number)
        sides = zip((r, s), (chunks.down, chunks.across), chunks.places[1:], strict=True)
        phase: list[Expr] = []
        shift: Index = 0
        for tap, reach, distance in sides:
            offset = tap * reach.dilation
            phase.append(tir.floormod(offset, reach.stride))
            shift = shift + tir.floordiv(offset, reach.stride) * distance
        block = (phase[0] * chunks.across.phases + phase[1]) * self.x.tiles + c
        return block * (ROWS * self._x_pitch) + shift

    def _add(
        self, sums: Expr, partial: Expr, partition: Index, what: tuple[Index, Index, int]
    ) -> None:
        """Add the sums of a group of tiles to the partial ones."""
        code, (k, at, down) = self.code, what
        blocks = 1 if self.planes == 2 else self._across
        for m in range(down):
            r, s, c = self._combination(at + m)
            for n in range(blocks):
                with code.loop(min(ROWS, self.x.slots)) as row:
                    tile = (m * self._across + n) * (ROWS * COLUMNS) + row * COLUMNS
                    lane = (k * blocks + n) * COLUMNS
                    to = self.partial.at(partition, 0, (r, s), c * ROWS + row, lane)
                    total = self._total(sums, tile)
                    if not self.chunks.direct:
                        total = load(partial, to, COLUMNS) + total
                    store(code, partial, to, total, COLUMNS)

    def _total(self, sums: Expr, at: Index) -> Expr:
        """A vector of sums over both planes, as the partial sums are kept."""
        wide = self.partial.dtype
        total = self._widened(load(sums, at, COLUMNS))
        if self.planes == 1:
            return total
        high = self._widened(load(sums, at + ROWS * COLUMNS, COLUMNS))
        return total + tir.shift_left(high, splat(PLANE_BITS, wide, COLUMNS))

    def _widened(self, total: Expr) -> Expr:
        wide = self.partial.dtype
        return total if wide == self.dot.acc else cast(total, wide, COLUMNS)
