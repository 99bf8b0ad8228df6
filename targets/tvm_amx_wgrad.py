"""Weight gradients on AMX: sums over pixels and images of g times x, by chunks.

for each chunk:
    unpack rows of x and of g; turn each pixel of a block of images into A tiles (x), B tiles (g)
    for each group of taps and channels of x, and block of channels of g:
        products over the chunk's pixels; a tap is another pixel; sums added to the partial ones
add the partitions in order, apply the factor, round and store
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from math import prod

from tvm import tirx as tir

from .tvm_amx_chunks import AmxChunks, choose_amx_chunks
from .tvm_amx_ir import (
    COLUMNS,
    ROWS,
    TILES,
    TileShape,
    dot,
    load_tile,
    store_tile,
    tiles,
    zero_tile,
)
from .tvm_amx_numbers import PLANE_BITS, planes
from .tvm_amx_words import LINE, RowsOf, TileMaker
from .tvm_expr import Code, Expr, Index, function, i32
from .tvm_gemm import GemmSpec
from .tvm_gemm_epilogue import Buffers
from .tvm_gemm_finish import Finish, Partial
from .tvm_gemm_ir import cast, fill, load, parallel, splat, split, store
from .tvm_gemm_numbers import fits_int32, integers
from .tvm_gemm_shapes import shape4
from .tvm_gemm_unpack import Operand, Unpacker

MOST = 4  # C tiles at work at once
Where = tuple[Index, Index, int]


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
        g_unpackers = [Unpacker(code, g, n, wide, False) for n in forms]
        x_unpacker = Unpacker(code, x, planes(x.format, self.dot.b)[0], wide, False)
        self.planes = len(forms)
        _, _, r, s = shape4(spec.out)
        self.taps = (r, s)
        x_tiles, g_tiles = (-(-u.slots // COLUMNS) for u in (x_unpacker, g_unpackers[0]))
        partial = Partial(1, 1, self.taps, x_tiles * ROWS, g_tiles * COLUMNS, self._sum_type())
        depth, kinds = ROWS * self.dot.block, (x_tiles, g_tiles * self.planes)
        c = choose_amx_chunks(spec, depth, kinds, partial.elements * 4)
        self.chunks: AmxChunks = c
        self.partial = replace(partial, partitions=c.partitions)
        of_g = RowsOf(c.width, 0, 1, c.height, 0, 1, c.width)
        self.gs = [TileMaker(code, u, of_g, c.images, c.flat) for u in g_unpackers]
        _, _, height, width = shape4(spec.b)
        of_x = RowsOf(
            c.across.extent(c.width),
            -c.down.padding,
            c.down.source_step,
            height,
            -c.across.padding,
            c.across.source_step,
            width,
        )
        self.x = TileMaker(code, x_unpacker, of_x, c.images, c.flat)

    def _sum_type(self) -> str:
        """Type of the partial sums: int64 where int32 could overflow over all pixels."""
        a, b = (integers(x.type.format) for x in (self.spec.a, self.spec.b))
        if self.dot.acc != "int32" or a is None or b is None:
            return self.dot.acc
        return "int32" if fits_int32(a, b, self.spec.length) else "int64"

    @property
    def g(self) -> TileMaker:
        """Of the first plane; all have one shape."""
        return self.gs[0]

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
    def _scratch(self) -> Iterator[tuple[Expr, Expr]]:
        """Memory for the tiles of x and of g of a chunk."""
        x = prod(self.chunks.size_x) * self.x.tiles * self.x.tile
        g = prod(self.chunks.size_g) * self.g.tiles * self.planes * self.g.tile
        with (
            self.code.workspace(self.dot.b, x) as x_tiles,
            self.code.workspace(self.dot.a, g) as g_tiles,
        ):
            yield x_tiles, g_tiles

    def _loop(self, count: int) -> AbstractContextManager[Expr]:
        """A loop within a chunk: where chunks are worked on one after the other, by all threads."""
        return parallel(self.code, count) if self.chunks.shared else self.code.loop(count)

    def _chunk(
        self, memory: tuple[Expr, Expr], partial: Expr, partition: Index, chunk: Index
    ) -> None:
        chunks = self.chunks
        block, band = split(chunk, chunks.count // chunks.bands, chunks.bands)
        first = (block * chunks.blocks, band * chunks.rows)
        above = (first[0], first[1] * chunks.down.step)
        self._prepare(self.x, self.x.columns, memory[0], above, chunks.size_x)
        for plane, g in enumerate(self.gs):
            start = plane * prod(chunks.size_g) * g.tiles * g.tile
            self._prepare(g, g.words, memory[1], first, chunks.size_g, start)
        self._products(memory, partial, partition)

    def _prepare(
        self,
        maker: TileMaker,
        make: Callable[[Expr, Index, Index, Expr, Index], None],
        to: Expr,
        first: tuple[Index, Index],
        size: tuple[int, int, int],
        start: int = 0,
    ) -> None:
        """Tiles [block of slots][block of images][row][column] from block and row ``first`` on."""
        code, (blocks, rows, columns) = self.code, size
        dtype = maker.unpacker.numbers.dtype
        with (
            self._loop(blocks * rows) as job,
            code.workspace(dtype, maker.elements) as pixels,
        ):
            b, y = split(job, blocks, rows)
            maker.unpack(pixels, first[0] + b, first[1] + y)
            with code.loop(maker.tiles) as tile, code.loop(columns) as column:
                pixel = (tile * (blocks * rows) + job) * columns + column
                make(pixels, column, tile, to, start + pixel * maker.tile)

    def _products(self, memory: tuple[Expr, Expr], partial: Expr, partition: Index) -> None:
        """All sums of a chunk."""
        combinations = prod(self.taps) * self.x.tiles
        whole, rest = divmod(combinations, self._down)
        blocks = self.g.tiles * self.planes // self._across
        for begin, groups, down in ((0, whole, self._down), (whole * self._down, 1, rest)):
            if not groups or not down:
                continue
            # Threads take whole rows of groups unless chunks are shared: tiles are set up once.
            outer = groups if self.chunks.shared else 1
            with self._loop(blocks * outer) as job, self._sums(down) as sums:
                k, part = split(job, blocks, outer)
                with self.code.loop(groups // outer) as i:
                    what = (k, begin + (part * (groups // outer) + i) * down, down)
                    self._group(memory, sums, what)
                    self._add(sums, partial, partition, what)

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

    def _group(self, memory: tuple[Expr, Expr], sums: Expr, what: Where) -> None:
        """Sums of ``down`` combinations of channels of x and tap with a block of g's channels."""
        code, chunks, (k, at, down) = self.code, self.chunks, what
        count = down * self._across
        b_tiles = range(count, count + self._across)
        a_tiles = range(count + self._across, min(TILES, count + self._across + down))
        starts = [code.let(self._x_pixel(at + m), "int32", "x") for m in range(down)]
        for tile in range(count):
            zero_tile(code, tile)
        blocks, rows, columns = chunks.size_g
        _, high, wide = chunks.size_x
        with (
            code.loop(blocks) as block,
            code.loop(rows) as y,
            code.loop(columns) as x,
        ):
            pixel = (block * rows + y) * columns + x
            for n, b in enumerate(b_tiles):
                start = (self._g_block(k, n) * prod(chunks.size_g) + pixel) * self.g.tile
                load_tile(code, b, memory[1], start, LINE)
            pixel = (block * high + y * chunks.down.step) * wide + x * chunks.across.step
            for m, start in enumerate(starts):
                a = a_tiles[m % len(a_tiles)]
                load_tile(code, a, memory[0], (start + pixel) * self.x.tile, LINE)
                for n, b in enumerate(b_tiles):
                    dot(code, self.dot.b, self.dot.a, m * self._across + n, a, b)
        for tile in range(count):
            store_tile(code, tile, sums, tile * (ROWS * COLUMNS), COLUMNS * 4)

    def _g_block(self, k: Index, n: int) -> Index:
        """Number of a block of g's channels among those of all planes."""
        return n * self.g.tiles + k if self.planes == 2 else k * self._across + n

    def _combination(self, number: Index) -> list[Expr]:
        """Block of channels of x, tap row, tap column: taps of a row are worked on together."""
        return split(number, self.x.tiles, *self.taps)

    def _x_pixel(self, number: Index) -> Index:
        """The first tile of a combination, in tiles."""
        chunks = self.chunks
        c, r, s = self._combination(number)
        tap = r * (chunks.down.dilation * chunks.size_x[2]) + s * chunks.across.dilation
        return c * prod(chunks.size_x) + tap

    def _add(self, sums: Expr, partial: Expr, partition: Index, what: Where) -> None:
        """Add the sums of a group of tiles to the partial ones."""
        code, (k, at, down) = self.code, what
        blocks = 1 if self.planes == 2 else self._across
        for m in range(down):
            c, r, s = self._combination(at + m)
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
