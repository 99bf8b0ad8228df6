"""Pairs: scratch rows for weight gradients, in which a word holds a channel of two pixels.

The int16 and bf16 dots sum over pairs of output pixels, so a word pairs a pixel with its partner,
the pixel that the next output sees. The other units take one pixel a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, load
from .cells import Cells
from .decode import Numbers
from .unpack import StoredTensor, Unpacker, part_codes, side_by_side_codes
from .vectors import bits, cast, fill, splat, store, vectors


@dataclass(frozen=True, slots=True)
class WordRun:
    """Words ``start .. end`` of a row, with which of a word's two pixels exist."""

    start: int
    end: int
    first: bool
    second: bool


@dataclass(frozen=True, slots=True)
class WordRow:
    """A row of ``count`` words: word ``q`` holds pixel ``q * step + origin`` and, where words are
    pairs, the one ``partner`` further; pixels outside ``0 .. pixels`` are zero."""

    count: int
    step: int
    origin: int
    partner: int
    pixels: int

    def runs(self) -> list[WordRun]:
        """The row cut where the existence of pixels changes."""
        out: list[WordRun] = []
        for q in range(self.count):
            w = q * self.step + self.origin
            first = 0 <= w < self.pixels
            second = self.partner > 0 and 0 <= w + self.partner < self.pixels
            if out and (out[-1].first, out[-1].second) == (first, second):
                out[-1] = WordRun(out[-1].start, q + 1, first, second)
            else:
                out.append(WordRun(q, q + 1, first, second))
        return out


@dataclass(frozen=True, eq=False, slots=True)
class WordWriter:
    """Writes rows of words of ``source`` to ``cells`` of scratch, a word for each slot; where
    words are pairs their halves are ``numbers``."""

    code: Code
    source: StoredTensor
    unpacker: Unpacker
    words: WordRow
    cells: Cells
    vector_bytes: int
    numbers: Numbers

    def row(self, to: Expr, row: Index, at: tuple[Index, Index, Index]) -> None:
        """The row of a number; ``at`` is image, row and the column that counts as 0."""
        image, h, w = at
        start = self.cells.behind(row * self.words.count)
        for run in self.words.runs():
            cells, n = start.behind(run.start), run.end - run.start
            first = w + (run.start * self.words.step + self.words.origin)
            if not (run.first or run.second):
                self._zero(to, cells, n)
            elif not self.words.partner:
                place = (image, h, first)
                self.unpacker.row(to, cells, place, n, self.words.step)
            else:
                self._pairs(to, cells, (image, h, first), run)

    def zero(self, to: Expr, row: Index) -> None:
        """Zero the row of a number."""
        self._zero(to, self.cells.behind(row * self.words.count), self.words.count)

    def _zero(self, to: Expr, cells: Cells, words: int) -> None:
        slots = self.unpacker.slots.count
        runs = -(-slots // cells.run) if cells.run else 1
        with self.code.loop(runs) as run:
            start = cells.start + run * cells.apart
            fill(self.code, to, start, words * cells.pitch, 0, self.vector_bytes // 4)

    def _pairs(self, to: Expr, cells: Cells, at: tuple[Index, Index, Index], run: WordRun) -> None:
        image, h, w = at
        n, step, cell = run.end - run.start, self.words.step, self.source.cell
        if not self.source.pixels:
            self._planes(to, cells, at, run)
            return
        base = self.source.pixel(image, h, w) * cell
        whole = self.unpacker.slots.side_by_side
        if whole and step == 1 and cells.full(self.unpacker.slots.count):
            self._bytes(to, cells, base, n * cell, run)
            return
        with self.code.loop(n) as i:
            raw = base + i * (step * cell)
            if whole:
                self._bytes(to, cells.behind(i), raw, cell, run)
            else:
                self._channels(to, cells.behind(i), raw, run)

    def _bytes(self, to: Expr, cells: Cells, raw: Index, n: int, run: WordRun) -> None:
        """``n`` stored elements whose numbers become neighbouring words."""
        f, parts = self.source.format, self.source.layout.parts

        def write(i: Index, lanes: int) -> None:
            stored = self._stored(raw + i, lanes)
            if f.is_coded:
                stored = [side_by_side_codes(x, f, parts, 32, lanes) for x in stored]
            joined = self._join(stored, lanes * parts, run)
            store(self.code, to, cells.at(0, i * parts), joined, lanes * parts)

        vectors(self.code, n, self.vector_bytes // (4 * parts), write)

    def _channels(self, to: Expr, cells: Cells, raw: Index, run: WordRun) -> None:
        """One pixel with its channels in order."""
        f, cell, channels = self.source.format, self.source.cell, self.source.shape[1]
        for part in range(self.source.layout.parts):
            first = part * cell

            def write(i: Index, lanes: int, part: int = part, first: int = first) -> None:
                codes = [
                    part_codes(stored, f, part, 32, lanes)
                    for stored in self._stored(raw + i, lanes)
                ]
                store(self.code, to, cells.at(0, first + i), self._join(codes, lanes, run), lanes)

            vectors(self.code, max(0, min(cell, channels - first)), self.vector_bytes // 4, write)

    def _planes(self, to: Expr, cells: Cells, at: tuple[Index, Index, Index], run: WordRun) -> None:
        """Channels apart from each other: one element at a time."""
        image, h, w = at
        n, step = run.end - run.start, self.words.step
        with self.code.loop(self.source.shape[1]) as c, self.code.loop(n) as i:
            pixel = w + i * step

            def half(exists: bool, column: Index, c: Expr = c) -> Expr:
                if not exists:
                    return tir.const(0, "int32")
                number = self.source.number((image, c, h, column), self.numbers.wide)
                return cast(self.numbers.of_number(number), "int32")

            low, high = half(run.first, pixel), half(run.second, pixel + self.words.partner)
            word = tir.bitwise_or(
                tir.bitwise_and(low, tir.const(0xFFFF, "int32")),
                tir.shift_left(high, tir.const(16, "int32")),
            )
            store(self.code, to, cells.at(i, c), word)

    def _stored(self, raw: Index, lanes: int) -> list[Expr]:
        """The bytes of a pixel and of its partner, to be used where they exist."""
        offsets = (0, self.words.partner * self.source.cell)
        return [load(self.source.buffer, raw + offset, lanes) for offset in offsets]

    def _join(self, stored: list[Expr], lanes: int, run: WordRun) -> Expr:
        """Words from u32 codes, or stored carriers, of both pixels; a missing one's half is 0."""
        if self.source.format.is_coded and self.numbers.wide == "int32":
            # Both halves are decoded at once.
            both = self._side(stored[0], stored[1], lanes, run)
            halves = bits(both, "uint16", 2 * lanes)
            numbers = self.numbers.of_codes(self.source.format, halves, 2 * lanes)
            return self._kept(bits(numbers, "int32", lanes), lanes, run)
        low, high = (cast(self._half(x, lanes), "uint32", lanes) for x in stored)
        return self._kept(bits(self._side(low, high, lanes, run), "int32", lanes), lanes, run)

    def _side(self, low: Expr, high: Expr, lanes: int, run: WordRun) -> Expr:
        """u32 with one pixel's u16 in the lower, the other's in the upper half."""
        if not run.second:
            return low
        upper = tir.shift_left(high, splat(16, "uint32", lanes))
        return tir.bitwise_or(low, upper) if run.first else upper

    def _kept(self, words: Expr, lanes: int, run: WordRun) -> Expr:
        """Words with the half of a missing pixel cleared."""
        if run.first and run.second:
            return words
        mask = 0xFFFF if run.first else -0x10000
        return tir.bitwise_and(words, splat(mask, "int32", lanes))

    def _half(self, stored: Expr, lanes: int) -> Expr:
        """The half of a word that is bf16."""
        f = self.source.format
        if not f.is_coded:
            return self.numbers.of_carrier(f, stored, lanes)
        return self.numbers.of_codes(f, cast(stored, "uint16", lanes), lanes)


def as_operand(words: Expr, pairs: bool, lanes: int) -> Expr:
    """A vector of words as the dot takes it."""
    return bits(words, "int16", 2 * lanes) if pairs else words
