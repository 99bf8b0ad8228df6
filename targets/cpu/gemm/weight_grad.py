"""Weight gradients: sums over pixels of g times x, by chunks of pixels and tiles of the result.

for each chunk:
    unpack x and g of its pixels into words (pairs of pixels for the int16 dot)
    for each tile of the result: accumulators over the chunk's pixels, added to the partial sums
add the partitions in order, apply the factor, round and store
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tvm import tirx as tir

from ...gemm.shapes import shape4
from ...plan.layout import Layout
from ...tir.expr import Code, Expr, Index, load
from ..dialect import function
from .cells import Cells, odd_lines
from .chunks import ChunkMemory, choose_chunks, choose_weight_tile
from .decode import Numbers, numbers_of
from .dots import prepare, repeated
from .epilogue import GemmBuffers
from .finish import Finish, Partial, sum_type
from .pairs import WordRow, WordWriter, as_operand
from .pixels import pixels
from .slots import Slots
from .spec import GemmSpec
from .sums import TileSums, places, sums_of
from .unpack import StoredTensor, Unpacker
from .vectors import cast, fill, least, split, store

WORD_BYTES = 4
# A line of the cache; pixels of so many words meet in it, unless they are put apart.
LINE_WORDS, MANY_WORDS = 16, 128


def build_weight_grad(spec: GemmSpec) -> tir.PrimFunc:
    """The function of a weight gradient."""

    def body(code: Code, slots: list[Expr]) -> None:
        _WeightGrad(code, spec, GemmBuffers.of(spec, slots)).emit()

    return function(spec.parameters, body)


def _spread(words: int) -> int:
    """Words from one pixel to the next: an odd number of lines where there are many."""
    return words if words < MANY_WORDS else odd_lines(words, LINE_WORDS)


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    """A tile of the result: group and block of lanes of g, row and block of columns of the taps,
    block of channels of x."""

    group: Expr
    lanes: Expr
    row: Expr
    columns: Expr
    channels: Expr


class _WeightGrad:
    """The pieces of one kernel."""

    def __init__(self, code: Code, spec: GemmSpec, buffers: GemmBuffers) -> None:
        self.code, self.spec, self.buffers = code, spec, buffers
        self.dot, self.vector = spec.dot, spec.cpu.lanes
        self.pair = self.dot.block
        self.grid = pixels(spec.a, spec.pointwise)
        out_channels, channels, *taps = shape4(spec.out)
        self.taps = (taps[0], taps[1])
        self.groups = spec.lane_groups
        words, slots = self._words_of(), [self._slots(x) for x in (spec.a, spec.b)]
        whole = self.groups == 1
        self.lanes = slots[0].count if whole else out_channels // self.groups
        self.channels = slots[1].count if whole and not spec.depthwise else channels
        sizes = (self.taps[1], self.channels, self.lanes, self.vector)
        self.tile = choose_weight_tile(spec.dot, *sizes)
        one = Partial(1, self.groups, self.taps, *self._extent, sum_type(spec))
        pitches = [_spread(s.count) for s in slots]
        # Scratch of one output row: its words of g and about as many rows of x as the stride.
        row = words[0].count * pitches[0] + words[1].count * pitches[1] * max(1, spec.stride[0])
        self.chunks = choose_chunks(spec, self.grid, WORD_BYTES * row, one.elements * 4)
        self.g = self._writer(buffers.a, slots[0], words[0], self._cells_of_g(slots[0], words[0]))
        self.x = self._writer(buffers.b, slots[1], words[1], Cells(0, pitches[1]))
        self.partial = replace(one, partitions=self.chunks.partitions.count)
        # What is of one pair of matrices each is not added up.
        self.sums = replace(one, groups=spec.batch) if spec.batch > 1 else self.partial

    @property
    def word(self) -> str:
        """Type of a word of scratch."""
        return "float32" if self.dot.a == "float32" else "int32"

    def _words_of(self) -> tuple[WordRow, WordRow]:
        """The words of a row of g and of x."""
        spec, pair, grid = self.spec, self.pair, self.grid
        columns = -(-grid.columns // pair)
        partner = 1 if pair == 2 else 0
        seen = WordRow(columns, pair, 0, partner, grid.columns)
        stride, dilation = spec.stride[1], spec.dilation[1]
        partner *= stride
        origin, width = -spec.padding[1], grid.columns if grid.flat else shape4(spec.b)[3]
        if self.taps[1] == 1:
            words = WordRow(columns, pair * stride, origin, partner, width)
        else:
            count = (columns - 1) * pair * stride + (self.taps[1] - 1) * dilation + 1
            words = WordRow(count, 1, origin, partner, width)
        return seen, words

    def _slots(self, layout: Layout) -> Slots:
        """Slots of a pixel in words."""
        return Slots(layout, 8 * WORD_BYTES, self.spec.groups > 1)

    def _cells_of_g(self, slots: Slots, words: WordRow) -> Cells:
        """Cells of a chunk of g: what a tile reads of many channels lies in runs."""
        wide = self.tile.vectors * self.vector
        if not slots.side_by_side or self.groups > 1 or slots.count < MANY_WORDS:
            return Cells(0, _spread(slots.count))
        return Cells(0, wide, wide, self.chunks.images * self.chunks.rows * words.count * wide)

    def _writer(self, buffer: Expr, slots: Slots, words: WordRow, cells: Cells) -> WordWriter:
        wide, source = self.spec.cpu.vector_bytes, StoredTensor(buffer, slots.layout)
        unpacker = Unpacker(self.code, source, Numbers(self.word), wide, slots.in_order)
        numbers = numbers_of(self.dot.a) if self.pair == 2 else Numbers(self.word)
        return WordWriter(self.code, source, unpacker, words, cells, wide, numbers)

    @property
    def _blocks(self) -> tuple[int, int, int]:
        """Blocks of tap columns, of channels of x and of lanes of g."""
        t = self.tile
        wide = t.vectors * self.vector
        return self.taps[1] // t.taps, -(-self.channels // t.channels), -(-self.lanes // wide)

    @property
    def _extent(self) -> tuple[int, int]:
        """Channels and lanes of the partial sums, whole tiles."""
        _, channels, lanes = self._blocks
        return channels * self.tile.channels, lanes * self.tile.vectors * self.vector

    def _x_rows(self) -> int:
        """Rows of x in scratch for a chunk's rows of one image."""
        rows, taps = self.chunks.rows, self.taps[0]
        if taps == 1:
            return rows
        return (rows - 1) * self.spec.stride[0] + (taps - 1) * self.spec.dilation[0] + 1

    def emit(self) -> None:
        """The whole kernel."""
        code, partitions, elements = self.code, self.chunks.partitions, self.partial.elements
        prepare(code, self.dot)
        with code.workspace(self.partial.dtype, partitions.count * elements) as partial:

            def clear(partition: Index) -> None:
                fill(code, partial, partition * elements, elements, 0, self.vector)

            def add(memory: ChunkMemory, partition: Index, chunk: Expr) -> None:
                self._chunk(memory, partial, partition, chunk)

            partitions.emit(code, self._scratch, clear, add)
            g, x = self.g.unpacker.slots, self.x.unpacker.slots
            finish = Finish(code, self.spec, self.buffers, self.sums, g, x, self.vector)
            finish.emit(partial)

    @contextmanager
    def _scratch(self) -> Iterator[ChunkMemory]:
        """Words of g and of x for one chunk; tiles may read a little beyond the last."""
        images, channels, lanes = self.chunks.images, *self._extent
        cells = self.g.cells
        runs = lanes // cells.run if cells.run else 1
        g = runs * images * self.chunks.rows * self.g.words.count * cells.pitch
        x = images * self._x_rows() * self.x.words.count * self.x.cells.pitch
        with (
            self.code.workspace(self.word, g + lanes) as gs,
            self.code.workspace(self.word, x + max(channels, lanes)) as xs,
        ):
            yield ChunkMemory(gs, xs)

    def _chunk(self, memory: ChunkMemory, partial: Expr, partition: Index, chunk: Expr) -> None:
        code, chunks, grid = self.code, self.chunks, self.grid
        block, band = split(chunk, -(-grid.images // chunks.images), chunks.bands)
        first = (block * chunks.images, band * chunks.rows)
        counts = (
            chunks.images
            if grid.images % chunks.images == 0
            else least(grid.images - first[0], chunks.images),
            chunks.rows
            if grid.rows % chunks.rows == 0
            else least(grid.rows - first[1], chunks.rows),
        )
        self._prepare(memory, first)
        b = self._blocks
        jobs = (self.groups, b[2], self.taps[0], b[0], b[1])
        count = 1
        for extent in jobs:
            count *= extent
        with chunks.partitions.loop(code, count) as job:
            self._tile(memory, partial, partition, _Job(*split(job, *jobs)), counts)

    def _prepare(self, memory: ChunkMemory, first: tuple[Index, Index]) -> None:
        """Unpack the chunk; rows and images beyond the last become zero or stay unread."""
        code, chunks, grid = self.code, self.chunks, self.grid
        height = 1 if grid.flat else shape4(self.spec.b)[2]
        for writer, to, rows, limit in (
            (self.g, memory.g, chunks.rows, grid.rows),
            (self.x, memory.x, self._x_rows(), height),
        ):
            with chunks.partitions.loop(code, chunks.images * rows) as job:
                i, y = split(job, chunks.images, rows)
                image = first[0] + i
                row = first[1] + y if writer is self.g else self._x_row(first[1], y)
                inside = tir.all(image < grid.images, row >= 0, row < limit)
                with code.when(inside):
                    at = (0, 0, image * grid.columns) if grid.flat else (image, row, 0)
                    writer.row(to, job, at)
                with code.when(tir.Not(inside)):
                    writer.zero(to, job)

    def _x_row(self, first: Index, y: Index) -> Index:
        """The row of x at row ``y`` of scratch, for output rows from ``first`` on."""
        stride, padding = self.spec.stride[0], self.spec.padding[0]
        step = stride if self.taps[0] == 1 else 1
        return first * stride + y * step - padding

    def _tile(
        self,
        memory: ChunkMemory,
        partial: Expr,
        partition: Index,
        job: _Job,
        counts: tuple[Index, Index],
    ) -> None:
        code, t, lanes = self.code, self.tile, self.vector
        shape = (t.taps, t.channels, t.vectors)
        sums = sums_of(code, self.dot, shape, lanes)
        for place in places(shape):
            sums.begin(None, *place)
        with (
            code.loop(counts[0]) as image,
            code.loop(counts[1]) as row,
            code.loop(self.g.words.count) as word,
        ):
            self._multiply(memory, sums, (image, row, word), job)
        for i, j, v in places(shape):
            tap = (job.row, job.columns * t.taps + i)
            lane = (job.lanes * t.vectors + v) * lanes
            channel = job.channels * t.channels + j
            at = self.partial.at(partition, job.group, tap, channel, lane)
            total = load(partial, at, lanes) + self._widen(sums.total(i, j, v))
            store(code, partial, at, total, lanes)

    def _widen(self, total: Expr) -> Expr:
        """A vector of sums as the partial sums are kept."""
        wide = self.partial.dtype
        return total if self.dot.acc == wide else cast(total, wide, self.vector)

    def _multiply(
        self,
        memory: ChunkMemory,
        sums: TileSums,
        place: tuple[Expr, Expr, Expr],
        job: _Job,
    ) -> None:
        """Add the products of a word at (image, row, word) of the chunk."""
        image, row, word = place
        t, spec, lanes = self.tile, self.spec, self.vector
        line = (image * self.chunks.rows + row) * self.g.words.count + word
        first = job.group * self.lanes + job.lanes * (t.vectors * lanes)
        start = self.g.cells.at(line, first)
        vectors = [self._words(memory.g, start + v * lanes) for v in range(t.vectors)]
        down = row if self.taps[0] == 1 else row * spec.stride[0] + job.row * spec.dilation[0]
        across = word * (1 if self.taps[1] == 1 else self.pair * spec.stride[1])
        line = (image * self._x_rows() + down) * self.x.words.count + across
        for i in range(t.taps):
            pixel = line + (job.columns * t.taps + i) * spec.dilation[1]
            for j in range(t.channels):
                channel = job.group * self.channels + job.channels * t.channels + j
                start = self.x.cells.at(pixel, channel)
                for v, b in enumerate(vectors):
                    if spec.depthwise:
                        a = self._words(memory.x, self.x.cells.at(pixel, first + v * lanes))
                    else:
                        a = repeated(self.dot, load(memory.x, start), lanes)
                    sums.add(a, b, i, j, v)

    def _words(self, scratch: Expr, start: Index) -> Expr:
        """A vector of words as the dot takes it."""
        return as_operand(load(scratch, start, self.vector), self.pair == 2, self.vector)
