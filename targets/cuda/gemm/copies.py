"""Operands to shared memory, piece by piece, see ``frame``.

Decoded ones are copied asynchronously; of the others a thread loads words of codes ahead of the
products of a step, and stores what they stand for behind them. A thread has the same piece of
several rows, a fixed number of rows apart, in every step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from tvm import tirx as tir

from ...gemm.shapes import shape4
from ...plan.layout import Layout
from ...tir.expr import Expr, i32, load
from ..code import DeviceCode
from ..ptx import address, copy_async, keep, ptx, u32
from .frame import STEP, THREADS, PaddedChannels, PhaseSums, TileFrame
from .maps import unravel
from .words import planes_of_word

OUTSIDE = -(1 << 20)  # a row of an image that no tap reaches


@dataclass(frozen=True, eq=False)
class TileBlock:
    """Which tile a block makes: its group, first row and column, first element of k."""

    code: DeviceCode
    frame: TileFrame
    sums: PhaseSums
    g: Expr
    m: Expr
    n: Expr


@dataclass(eq=False)
class Copies(ABC):
    """Copies of one operand, ``which`` of the two, from ``source``, ``plane`` elements a plane."""

    block: TileBlock
    which: int
    source: Expr
    plane: int
    piece: int
    offset: int = 0
    shared: Expr = field(init=False)

    def __post_init__(self) -> None:
        frame, code = self.block.frame, self.block.code
        self.direct, layout = frame.direct[self.which], self.layout
        if self.direct:
            self.piece = self.direct * 4 * layout.parts * frame.width
        extents = (frame.tile.m, frame.tile.n)
        row = extents[self.which] * frame.width if frame.spec.weight_grad else STEP
        self.across = row // self.piece
        self.apart = THREADS // self.across
        thread = code.thread
        piece = tir.floormod(thread, i32(self.across))
        self.byte = code.let(piece * i32(self.piece), "int32", "byte")
        self.row = code.let(tir.floordiv(thread, i32(self.across)), "int32", "row")
        self.element = code.let(tir.floordiv(self.byte, i32(frame.width)), "int32", "element")

        count = -(-frame.rows[self.which] // self.apart)
        self.words = code.local("uint32", count * self.direct) if self.direct else None

    @property
    def layout(self) -> Layout:
        """The operand in memory."""
        spec = self.block.frame.spec
        return spec.b if self.which else spec.a

    def prepare(self) -> None:  # noqa: B027 - most have nothing
        """What is the same in all steps."""

    @abstractmethod
    def fetch(self, step: Expr, stage: Expr, base: int) -> None:
        """Start the copies of a step into the stage of a first word, ``base`` of it on."""

    @property
    def rows(self) -> Iterator[tuple[int, Expr]]:
        """The rows of this thread."""
        count = self.block.frame.rows[self.which]
        for i in range(-(-count // self.apart)):
            row = self.row + i32(i * self.apart)
            if (i + 1) * self.apart <= count:
                yield i, row
                continue
            with self.block.code.when(row < i32(count)):
                yield i, row

    def copy(
        self, i: int, row: Expr, stage: Expr, base: int, at: Expr, inside: Expr | None
    ) -> None:
        """A piece of every plane, from element ``at`` of it on."""
        frame, code = self.block.frame, self.block.code
        if self.words is not None:
            assert inside is not None, "weights are decoded before"
            self._load(self.words, i, at, inside)
            return
        for p in range(len(frame.planes[self.which])):
            target = address(self.shared, self._target(row, stage, base, p))
            source = address(self.source, at + i32(p * self.plane + self.offset))
            copy_async(code, self.piece, target, source, inside)

    def _target(self, row: Expr, stage: Expr, base: int, plane: int) -> Expr:
        frame = self.block.frame
        pitch, area = frame.pitches[self.which], frame.areas[self.which]
        first = stage + i32((base + plane * area) // 4)
        return first + row * i32(pitch // 4) + tir.floordiv(self.byte, i32(4))

    def _load(self, words: Expr, i: int, at: Expr, inside: Expr) -> None:
        """The codes of a piece; those of zeros where not ``inside``."""
        code, size = self.block.code, self.direct
        for j in range(size):
            code.store(words, i32(i * size + j), u32(0))
        form = f"ld.global.{f'v{size}.' if size > 1 else ''}b32"
        registers = [load(words, i32(i * size + j)) for j in range(size)]
        source = address(self.source, tir.floordiv(at, i32(self.layout.parts)))
        with code.when(inside):
            ptx(code, form, *registers, source)

    def land(self, stage: Expr, base: int) -> None:
        """Store what the codes of the last step stand for; copies come by themselves."""
        if self.words is None:
            return
        frame, code, size = self.block.frame, self.block.code, self.direct
        f, planes = self.layout.type.format, frame.planes[self.which]
        for i, row in self.rows:
            made = [
                planes_of_word(code, load(self.words, i32(i * size + j)), f, frame.unit, planes)
                for j in range(size)
            ]
            for p in range(len(planes)):
                parts = [
                    [w for one in made for w in one[p][part]] for part in range(len(made[0][p]))
                ]
                self._store(self._target(row, stage, base, p), [w for part in parts for w in part])

    def _store(self, first: Expr, words: list[Expr]) -> None:
        """Words side by side, as many at once as lie on their own size."""
        size = min(4, len(words), self.piece // 4)
        form = f"st.shared.{f'v{size}.' if size > 1 else ''}b32"
        for i in range(0, len(words), size):
            target = address(self.shared, first + i32(i))
            ptx(self.block.code, form, target, *words[i : i + size])


class PixelRows(Copies):
    """``a`` of forward and dX: rows are results, k is taps and channels."""

    def prepare(self) -> None:
        """The first pixel of every row."""
        block = self.block
        code, frame, phase = block.code, block.frame, block.sums.phase
        assert phase is not None
        geometry = frame.geometry
        count = -(-frame.rows[0] // self.apart)
        self.top, self.left, self.pixel = (code.local("int32", count) for _ in range(3))
        for i, row in self.rows:
            m = code.let(block.m + row, "int32", "m")
            image, y, x = unravel(code, m, phase.rows.places, phase.columns.places)
            top = y * i32(geometry.rows.stride) + i32(phase.rows.offset)
            top = tir.Select(m < i32(block.sums.m), top, i32(OUTSIDE))
            left = x * i32(geometry.columns.stride) + i32(phase.columns.offset)
            pixel = (image * i32(geometry.height) + top) * i32(geometry.width) + left
            for register, value in ((self.top, top), (self.left, left), (self.pixel, pixel)):
                code.store(register, i32(i), value)

    def fetch(self, step: Expr, stage: Expr, base: int) -> None:
        """See ``Copies``."""
        block = self.block
        code, frame, phase = block.code, block.frame, block.sums.phase
        assert phase is not None
        channels, geometry = frame.first, frame.geometry
        k = code.let(step * i32(frame.depth) + self.element, "int32", "k")
        tap = code.let(tir.floordiv(k, i32(channels.padded)), "int32", "tap")
        c = code.let(tir.floormod(k, i32(channels.padded)), "int32", "c")
        taps = i32(phase.columns.taps)
        down = keep(code, tir.floordiv(tap, taps) * i32(phase.rows.slope), "int32")
        right = keep(code, tir.floormod(tap, taps) * i32(phase.columns.slope), "int32")
        first = keep(
            code, (down * i32(geometry.width) + right) * i32(self.step_of(channels)) + c, "int32"
        )
        there = tap < i32(phase.taps)
        for i, row in self.rows:
            inside = tir.all(
                there,
                within(load(self.top, i32(i)) + down, geometry.height),
                within(load(self.left, i32(i)) + right, geometry.width),
            )
            at = load(self.pixel, i32(i)) * i32(self.step_of(channels)) + first
            self.copy(i, row, stage, base, at + block.g * i32(channels.padded), inside)

    def step_of(self, channels: PaddedChannels) -> int:
        """Elements between pixels."""
        return self.block.frame.groups * channels.padded


class WeightRows(Copies):
    """``b`` of forward and dX: rows of k for each channel out."""

    def fetch(self, step: Expr, stage: Expr, base: int) -> None:
        """See ``Copies``."""
        block = self.block
        frame, sums = block.frame, block.sums
        length = sums.steps * frame.depth
        first = (block.g * i32(sums.blocks[1] * frame.tile.n) + block.n) * i32(length)
        first = first + step * i32(frame.depth) + self.element
        for i, row in self.rows:
            self.copy(i, row, stage, base, first + row * i32(length), None)


class GradRows(Copies):
    """``a`` of dW: rows are pixels, in order."""

    def fetch(self, step: Expr, stage: Expr, base: int) -> None:
        """See ``Copies``."""
        block = self.block
        code, frame = block.code, block.frame
        n, _, h, w = shape4(frame.spec.a)
        channel = block.m + self.element
        for i, row in self.rows:
            pixel = code.let(step * i32(frame.depth) + row, "int32", "pixel")
            inside = tir.all(pixel < i32(n * h * w), channel < i32(frame.first.padded))
            at = (pixel * i32(frame.groups) + block.g) * i32(frame.first.padded) + channel
            self.copy(i, row, stage, base, at, inside)


class ImageRows(Copies):
    """``b`` of dW: rows are pixels of dY, columns what a tap sees there."""

    def prepare(self) -> None:
        """The tap and the channel of this thread's piece."""
        block = self.block
        code, frame, spec = block.code, block.frame, block.frame.spec
        n = code.let(block.n + self.element, "int32", "n")
        tap = tir.floordiv(n, i32(frame.second.padded))
        self.channel = keep(code, tir.floormod(n, i32(frame.second.padded)), "int32")
        down = tir.floordiv(tap, i32(frame.taps[1])) * i32(spec.dilation[0])
        right = tir.floormod(tap, i32(frame.taps[1])) * i32(spec.dilation[1])
        self.down = keep(code, down - i32(spec.padding[0]), "int32")
        self.right = keep(code, right - i32(spec.padding[1]), "int32")
        self.there = keep(code, n < i32(block.sums.n), "bool")

    def fetch(self, step: Expr, stage: Expr, base: int) -> None:
        """See ``Copies``."""
        block = self.block
        code, frame, spec = block.code, block.frame, block.frame.spec
        count, _, rows, columns = shape4(spec.a)
        _, _, height, width = shape4(spec.b)
        padded = frame.second.padded
        for i, row in self.rows:
            pixel = code.let(step * i32(frame.depth) + row, "int32", "pixel")
            image, p, q = unravel(code, pixel, rows, columns)
            h = keep(code, p * i32(spec.stride[0]) + self.down, "int32")
            w = keep(code, q * i32(spec.stride[1]) + self.right, "int32")
            inside = tir.all(
                self.there, pixel < i32(count * rows * columns), within(h, height), within(w, width)
            )
            seen = (image * i32(height) + h) * i32(width) + w
            at = (seen * i32(frame.groups) + block.g) * i32(padded) + self.channel
            self.copy(i, row, stage, base, at, inside)


def within(place: Expr, extent: int) -> Expr:
    """0 <= place < extent."""
    return tir.Cast("uint32", place) < tir.const(extent, "uint32")
