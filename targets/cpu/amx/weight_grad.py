"""Weight gradients on AMX: sums over pixels and images of g times x, by chunks.

for each chunk:
    unpack rows of x and of g; turn each pixel of a block of images into A tiles (x), B tiles (g)
    for each group of taps and channels of x, and block of channels of g:
        products over the chunk's pixels; a tap is another pixel; sums added to the partial ones
add the partitions in order, apply the factor, round and store
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

from tvm import tirx as tir

from ...gemm.shapes import shape4
from ...tir.expr import Code, Expr, Index, i32, load
from ..dialect import function
from ..gemm.chunks import ChunkMemory
from ..gemm.epilogue import GemmBuffers
from ..gemm.finish import Finish, Partial, sum_type
from ..gemm.spec import GemmSpec
from ..gemm.unpack import StoredTensor, Unpacker
from ..gemm.vectors import cast, fill, split, store
from .chunks import AmxChunks, choose_amx_chunks
from .finish import TileFinish
from .grid import TILE_SUMS, StoredTile, TileGrid
from .planes import joined, planes
from .tiles import COLUMNS, LINE, ROWS, TileShape, tiles
from .words import RowsOf, TileMaker


def build_amx_weight_grad(spec: GemmSpec) -> tir.PrimFunc:
    """The function of a weight gradient."""

    def body(code: Code, slots: list[Expr]) -> None:
        _AmxWeightGrad(code, spec, GemmBuffers.of(spec, slots)).emit()

    return function(spec.parameters, body)


@dataclass(frozen=True, eq=False, slots=True)
class _TileJob:
    """Results whose sums a thread has at once: a block of channels of ``g``, some of ``x``."""

    g: Expr
    x: Expr


class _AmxWeightGrad:
    """The pieces of one kernel."""

    def __init__(self, code: Code, spec: GemmSpec, buffers: GemmBuffers) -> None:
        self.code, self.spec, self.buffers, self.dot = code, spec, buffers, spec.dot
        g, x = StoredTensor(buffers.a, spec.a), StoredTensor(buffers.b, spec.b)
        wide = spec.cpu.vector_bytes
        forms = planes(g.format, self.dot.a)
        g_unpackers = [Unpacker(code, g, n, wide, False) for n in forms]
        x_unpacker = Unpacker(code, x, planes(x.format, self.dot.b)[0], wide, False)
        self.planes = len(forms)
        _, _, r, s = shape4(spec.out)
        self.taps = (r, s)
        x_tiles, g_tiles = (-(-u.slots.count // COLUMNS) for u in (x_unpacker, g_unpackers[0]))
        partial = Partial(1, 1, self.taps, x_tiles * ROWS, g_tiles * COLUMNS, sum_type(spec))
        depth, kinds = ROWS * self.dot.block, (x_tiles, g_tiles * self.planes)
        c = choose_amx_chunks(spec, depth, kinds, partial.elements * 4)
        self.chunks: AmxChunks = c
        self.partial = replace(partial, partitions=c.partitions.count)
        grid = c.grid
        of_g = RowsOf(grid.columns, 0, 1, grid.rows, 0, 1, grid.columns)
        self.gs = [TileMaker(code, u, of_g, grid.images, grid.flat) for u in g_unpackers]
        _, _, height, width = shape4(spec.b)
        of_x = RowsOf(
            c.across.extent(grid.columns),
            -c.down.padding,
            c.down.source_step,
            height,
            -c.across.padding,
            c.across.source_step,
            width,
        )
        self.x = TileMaker(code, x_unpacker, of_x, grid.images, grid.flat)
        # Both planes, or two blocks of channels of g, by blocks of channels of x and taps.
        across = 2 if self.planes == 2 or self.g.tiles % 2 == 0 else 1
        self.grid = TileGrid.of(prod(self.taps) * self.x.tiles, across)

    @property
    def g(self) -> TileMaker:
        """Of the first plane; all have one shape."""
        return self.gs[0]

    def emit(self) -> None:
        """The whole kernel."""
        code, chunks = self.code, self.chunks
        kept = 1 if chunks.whole else chunks.partitions.count * self.partial.elements
        with code.workspace(self.partial.dtype, kept) as partial:

            def clear(partition: Index) -> None:
                self._clear(partial, partition)

            def add(memory: ChunkMemory, partition: Index, chunk: Expr) -> None:
                self._chunk(memory, partial, partition, chunk)

            chunks.partitions.emit(code, self._scratch, clear, add)
            if chunks.whole:
                return
            g, x = self.g.unpacker.slots, self.x.unpacker.slots
            Finish(code, self.spec, self.buffers, self.partial, g, x, COLUMNS).emit(partial)

    def _clear(self, partial: Expr, partition: Index) -> None:
        """Set the sums of a partition to 0, unless its only chunk writes them."""
        if not (self.chunks.direct or self.chunks.whole):
            elements = self.partial.elements
            fill(self.code, partial, partition * elements, elements, 0, COLUMNS)

    @contextmanager
    def _scratch(self) -> Iterator[ChunkMemory]:
        """Memory for the tiles of x and of g of a chunk."""
        x = prod(self.chunks.size_x) * self.x.tiles * self.x.tile
        g = prod(self.chunks.size_g) * self.g.tiles * self.planes * self.g.tile
        with (
            self.code.workspace(self.dot.b, x) as x_tiles,
            self.code.workspace(self.dot.a, g) as g_tiles,
        ):
            yield ChunkMemory(g_tiles, x_tiles)

    def _chunk(self, memory: ChunkMemory, partial: Expr, partition: Index, chunk: Index) -> None:
        chunks = self.chunks
        blocks = chunks.partitions.chunks // chunks.bands
        block, band = split(chunk, blocks, chunks.bands)
        first = (block * chunks.blocks, band * chunks.rows)
        above = (first[0], first[1] * chunks.down.step)
        self._prepare(self.x, self.x.columns, memory.x, above, chunks.size_x)
        for plane, g in enumerate(self.gs):
            start = plane * prod(chunks.size_g) * g.tiles * g.tile
            self._prepare(g, g.words, memory.g, first, chunks.size_g, start)
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
            self.chunks.partitions.loop(self.code, blocks * rows) as job,
            code.workspace(dtype, maker.elements) as pixels,
        ):
            b, y = split(job, blocks, rows)
            maker.unpack(pixels, first[0] + b, first[1] + y)
            with code.loop(maker.tiles) as tile, code.loop(columns) as column:
                pixel = (tile * (blocks * rows) + job) * columns + column
                make(pixels, column, tile, to, start + pixel * maker.tile)

    @property
    def _each(self) -> int:
        """Blocks of channels of x in a job: with one tap, as many as make a group."""
        some = self.grid.down if prod(self.taps) == 1 else 1
        return some if self.x.tiles % some == 0 else 1

    def _products(self, memory: ChunkMemory, partial: Expr, partition: Index) -> None:
        """All sums of a chunk; a job is some channels of x, all taps, and some channels of g."""
        down, combinations = self.grid.down, prod(self.taps) * self._each
        whole, rest = divmod(combinations, down)
        blocks, jobs = self.g.tiles * self.planes // self.grid.across, self.x.tiles // self._each
        # Tiles are set up once for all jobs of a thread that works alone.
        outer = blocks * jobs if self.chunks.partitions.shared else 1
        with (
            self.chunks.partitions.loop(self.code, outer) as part,
            self._sums(combinations) as sums,
            self.code.loop(blocks * jobs // outer) as i,
        ):
            job = _TileJob(*split(part + i, blocks, jobs))
            with self.code.loop(whole) as group:
                self._group(memory, sums, job, group * down, down)
            if rest:
                self._group(memory, sums, job, i32(whole * down), rest)
            if self.chunks.whole:
                self._finish(sums, job)
            else:
                self._add(sums, partial, partition, job)

    @contextmanager
    def _sums(self, combinations: int) -> Iterator[Expr]:
        """Memory for the sums of a job, and the tile registers."""
        c = TileShape(min(ROWS, self.x.slots))
        size = combinations * self.grid.across * TILE_SUMS
        with (
            self.code.workspace(self.dot.acc, size) as sums,
            tiles(self.code, self.grid.shapes(c, TileShape(), c)),
        ):
            yield sums

    def _group(
        self, memory: ChunkMemory, sums: Expr, job: _TileJob, first: Expr, down: int
    ) -> None:
        """Sums of ``down`` of a job's combinations of channels of x and tap, from ``first`` on."""
        code, chunks, grid = self.code, self.chunks, self.grid
        starts = [code.let(self._x_pixel(job, first + m), "int32", "x") for m in range(down)]
        blocks, rows, columns = chunks.size_g
        _, high, wide = chunks.size_x
        grid.zero(code, down)
        with (
            code.loop(blocks) as block,
            code.loop(rows) as y,
            code.loop(columns) as x,
        ):
            pixel = (block * rows + y) * columns + x
            of_g = [
                (self._g_block(job, n) * prod(chunks.size_g) + pixel) * self.g.tile
                for n in range(grid.across)
            ]
            pixel = (block * high + y * chunks.down.step) * wide + x * chunks.across.step
            of_x = [(start + pixel) * self.x.tile for start in starts]
            a = [StoredTile(memory.x, start, LINE) for start in of_x]
            b = [StoredTile(memory.g, start, LINE) for start in of_g]
            grid.multiply(code, (self.dot.b, self.dot.a), a, b)
        grid.store(code, sums, first * grid.across, down)

    def _g_block(self, job: _TileJob, n: int) -> Index:
        """Number of a block of g's channels among those of all planes."""
        return n * self.g.tiles + job.g if self.planes == 2 else job.g * self.grid.across + n

    def _combination(self, job: _TileJob, number: Index) -> list[Expr]:
        """Block of channels of x, tap row, tap column: taps of a row are worked on together."""
        channels, r, s = split(i32(0) + number, self._each, *self.taps)
        return [job.x * self._each + channels, r, s]

    def _x_pixel(self, job: _TileJob, number: Index) -> Index:
        """The first tile of a combination, in tiles."""
        chunks = self.chunks
        block, r, s = self._combination(job, number)
        tap = r * (chunks.down.dilation * chunks.size_x[2]) + s * chunks.across.dilation
        return block * prod(chunks.size_x) + tap

    @property
    def _g_blocks(self) -> int:
        """Blocks of channels of g in a job."""
        return 1 if self.planes == 2 else self.grid.across

    def _add(self, sums: Expr, partial: Expr, partition: Index, job: _TileJob) -> None:
        """Add the sums of a job to the partial ones."""
        code, rows = self.code, min(ROWS, self.x.slots)
        with code.loop(prod(self.taps) * self._each) as number, code.loop(rows) as row:
            block, r, s = self._combination(job, number)
            for n in range(self._g_blocks):
                lane = (job.g * self._g_blocks + n) * COLUMNS
                to = self.partial.at(partition, 0, (r, s), block * ROWS + row, lane)
                total = self._total(sums, number, n, row)
                if not self.chunks.direct:
                    total = load(partial, to, COLUMNS) + total
                store(code, partial, to, total, COLUMNS)

    def _finish(self, sums: Expr, job: _TileJob) -> None:
        """Store the sums of a job as the result."""
        code, taps = self.code, prod(self.taps)
        g, x = self.g.unpacker.slots, self.x.unpacker.slots
        end = TileFinish(code, self.spec, self.buffers, g, x)

        def rows(number: Index, n: int) -> list[Expr]:
            return [end.value(self._total(sums, number, n, i32(r))) for r in range(ROWS)]

        with code.workspace(self.spec.out.dtype, end.elements) as block:
            for n in range(self._g_blocks):
                kept = job.g * self._g_blocks + n
                if end.in_registers:
                    end.columns([rows(i, n) for i in range(self._each)], kept, job.x * self._each)
                    continue
                with code.loop(self._each) as i:
                    with code.loop(taps) as tap:
                        end.tap(block, tap, rows(i * taps + tap, n))
                    end.place(block, kept, job.x * self._each + i)

    def _total(self, sums: Expr, number: Index, n: int, row: Index) -> Expr:
        """A vector of sums over both planes, as the partial sums are kept."""
        wide = self.partial.dtype
        at = (number * self.grid.across + n) * TILE_SUMS + row * COLUMNS
        total = self._widened(load(sums, at, COLUMNS))
        if self.planes == 1:
            return total
        high = self._widened(load(sums, at + TILE_SUMS, COLUMNS))
        return joined(total, high, wide, COLUMNS)

    def _widened(self, total: Expr) -> Expr:
        wide = self.partial.dtype
        return total if wide == self.dot.acc else cast(total, wide, COLUMNS)
