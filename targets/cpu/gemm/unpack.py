"""Unpack: from a tensor in memory to scratch rows of the numbers that a unit multiplies.

``slots`` says where the channels of a pixel lie in scratch.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.formats import Format
from ...gemm.shapes import channels_last, shape4
from ...plan.layout import Layout
from ...tir.expr import Code, Expr, Index, load, packed_place, typed
from .cells import Cells
from .decode import Numbers, from_carrier, from_codes
from .slots import Slots
from .vectors import bits, cast, splat, store, vectors


@dataclass(frozen=True, eq=False, slots=True)
class StoredTensor:
    """A GEMM's operand: an N x C (x H x W) tensor and the buffer that holds it."""

    buffer: Expr
    layout: Layout

    @property
    def format(self) -> Format:
        """Format of the stored elements."""
        return self.layout.type.format

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, C, H, W."""
        return shape4(self.layout)

    @property
    def pixels(self) -> bool:
        """Whether the channels of a pixel lie together, one pixel after the other."""
        return channels_last(self.layout)

    @property
    def cell(self) -> int:
        """Stored elements of a pixel, or of a row of one channel where channels lie apart."""
        return -(-self.shape[1] // self.layout.parts) if self.pixels else self.layout.cell

    def pixel(self, n: Index, h: Index, w: Index) -> Index:
        """Number of a pixel in channels-last order."""
        _, _, height, width = self.shape
        return (n * height + h) * width + w

    def number(self, place: tuple[Index, Index, Index, Index], dtype: str) -> Expr:
        """The decoded element at (n, c, h, w) as ``dtype``: int32 or float32."""
        row, column = self._row(place)
        cell, f = self.cell, self.format
        if not f.is_coded:
            return from_carrier(f, load(self.buffer, row * cell + column), 1)
        if self.layout.parts == 1:
            return from_codes(
                f, part_codes(load(self.buffer, row * cell + column), f, 0, 32, 1), dtype, 1
            )
        part, byte = packed_place(column, cell, self.layout.parts)
        raw = cast(load(self.buffer, row * cell + byte), "uint32")
        shift = cast(part * f.storage_bits, "uint32")
        mask = tir.const((1 << f.bits) - 1, "uint32")
        return from_codes(f, tir.bitwise_and(tir.shift_right(raw, shift), mask), dtype, 1)

    def _row(self, place: tuple[Index, Index, Index, Index]) -> tuple[Index, Index]:
        n, c, h, w = place
        _, channels, height, _ = self.shape
        if self.pixels:
            return self.pixel(n, h, w), c
        return (n * channels + c) * height + h, w


@dataclass(frozen=True, eq=False, slots=True)
class Unpacker:
    """Writes pixels of ``source`` to scratch as ``numbers``."""

    code: Code
    source: StoredTensor
    numbers: Numbers
    vector_bytes: int
    in_order: bool

    @property
    def slots(self) -> Slots:
        """Where the channels of a pixel lie."""
        return Slots(self.source.layout, self.numbers.width, self.in_order)

    def row(
        self, to: Expr, cells: Cells, at: tuple[Index, Index, Index], n: int, step: int
    ) -> None:
        """Unpack ``n`` pixels, from (n, h, w) on, ``step`` apart, to ``cells``."""
        image, h, w = at
        cell = self.source.cell
        if not self.source.pixels:
            self._planes(to, cells, at, n, step)
        elif self.slots.side_by_side and step == 1 and cells.full(self.slots.count):
            self._bytes(to, cells, self.source.pixel(image, h, w) * cell, n * cell)
        else:
            write = self._bytes if self.slots.side_by_side else self._channels
            with self.code.loop(n) as i:
                raw = self.source.pixel(image, h, w + i * step) * cell
                write(to, cells.behind(i), raw, cell)

    def _bytes(self, to: Expr, cells: Cells, raw: Index, n: int) -> None:
        parts, source = self.source.layout.parts, self.source
        widest = max(1, self.vector_bytes * 8 // (self.numbers.width * parts))

        def write(i: Index, lanes: int) -> None:
            stored = load(source.buffer, raw + i, lanes)
            out = lanes * parts
            store(self.code, to, cells.at(0, i * parts), self._decoded(stored, lanes), out)

        vectors(self.code, n, widest, write)

    def _decoded(self, stored: Expr, lanes: int) -> Expr:
        f = self.source.format
        if not f.is_coded:
            return self.numbers.of_carrier(f, stored, lanes)
        codes = side_by_side_codes(stored, f, self.source.layout.parts, self.numbers.width, lanes)
        return self.numbers.of_codes(f, codes, lanes * self.source.layout.parts)

    def _channels(self, to: Expr, cells: Cells, raw: Index, cell: int) -> None:
        """One pixel with its channels in order: a run for each part of the bytes."""
        f, width = self.source.format, self.numbers.width
        channels = self.source.shape[1]
        for part in range(self.source.layout.parts):
            first = part * cell

            def write(i: Index, lanes: int, part: int = part, first: int = first) -> None:
                stored = load(self.source.buffer, raw + i, lanes)
                codes = part_codes(stored, f, part, width, lanes)
                numbers = self.numbers.of_codes(f, codes, lanes)
                store(self.code, to, cells.at(0, first + i), numbers, lanes)

            count = max(0, min(cell, channels - first))
            vectors(self.code, count, self.vector_bytes * 8 // width, write)

    def _planes(
        self, to: Expr, cells: Cells, at: tuple[Index, Index, Index], n: int, step: int
    ) -> None:
        """Channels apart from each other: one element at a time."""
        image, h, w = at
        with self.code.loop(self.source.shape[1]) as c, self.code.loop(n) as i:
            number = self.source.number((image, c, h, w + i * step), self.numbers.wide)
            store(self.code, to, cells.at(i, c), self.numbers.of_number(number))


def part_codes(stored: Expr, f: Format, part: int, width: int, lanes: int) -> Expr:
    """The codes of one part of each byte, in unsigned lanes of ``width`` bits."""
    dtype = f"uint{width}"
    wide = cast(stored, dtype, lanes)
    if part:
        wide = tir.shift_right(wide, splat(part * f.storage_bits, dtype, lanes))
    if f.bits == 8:
        return wide
    return tir.bitwise_and(wide, splat((1 << f.bits) - 1, dtype, lanes))


def side_by_side_codes(stored: Expr, f: Format, parts: int, width: int, lanes: int) -> Expr:
    """All codes of each byte as neighbours, in unsigned lanes of ``width`` bits."""
    if parts == 1:
        return part_codes(stored, f, 0, width, lanes)
    dtype = f"uint{width * parts}"
    wide = cast(stored, dtype, lanes)
    codes = None
    for part in range(parts):
        shift = splat(part * (width - f.storage_bits), dtype, lanes)
        mask = splat(((1 << f.bits) - 1) << (part * width), dtype, lanes)
        one = tir.bitwise_and(tir.shift_left(wide, shift), mask)
        codes = one if codes is None else tir.bitwise_or(codes, one)
    return bits(codes, typed(f"uint{width}", 1), lanes * parts)
