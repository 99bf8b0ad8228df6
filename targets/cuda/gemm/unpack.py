"""The first launch of a GEMM on tiles: operands as planes, see ``frame``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx as tir

from ...gemm.shapes import shape4
from ...plan.kernel import Unit
from ...tir.expr import Expr, Vectors, i32, load
from ..code import DeviceCode, Made, Maker
from ..ptx import address, keep, ptx, u32
from .elements import INTEGERS, PaddedChannels
from .frame import PhaseSums, TileFrame
from .maps import Coordinates, unravel
from .operand import GemmSlots, StoredOperand
from .words import planes_of_word

THREADS = 256
# Where an element is not padding, and its place.
Element = tuple[Expr, Coordinates]


def unpack_launch(frame: TileFrame, make: Maker[Made]) -> Made | None:
    """Decodes what does not lie as it is multiplied."""
    if not any(frame.unpacked):
        return None
    width = "float32" if frame.unit is Unit.F32 else "uint32"
    scratch = [(width, n * frame.width // 4) for n in frame.unpacked if n]
    others = [(t, n) for t, n in frame.scratch[len(scratch) :]]

    def body(code: DeviceCode, slots: list[Expr]) -> None:
        _Unpack(code, frame, GemmSlots.of(frame.spec, slots)).run()

    return make([*frame.spec.parameters, *scratch, *others], THREADS, body)


@dataclass(eq=False)
class _Unpack:
    """The statements: each operand over all threads of the grid, a word a thread."""

    code: DeviceCode
    frame: TileFrame
    slots: GemmSlots

    def run(self) -> None:
        """Append everything."""
        frame, grid = self.frame, 1
        code, slots = self.code, self.slots
        scratch = list(slots.scratch)
        first = StoredOperand(code, slots.a, frame.spec.a)
        second = StoredOperand(code, slots.b, frame.spec.b)
        with code.alone(None):
            if frame.unpacked[0]:
                grid = max(grid, self._pixels(first, frame.first, 0, scratch.pop(0)))
            if frame.unpacked[1] and frame.spec.weight_grad:
                grid = max(grid, self._pixels(second, frame.second, 1, scratch.pop(0)))
            elif frame.unpacked[1]:
                target, offset = scratch.pop(0), 0
                for sums in frame.sums:
                    grid = max(grid, self._weights(second, sums, offset, target))
                    offset += frame.weights_of(sums)
        code.grid = grid

    @property
    def each(self) -> int:
        """Elements of a word."""
        return 4 // self.frame.width

    def _channel(self, channels: PaddedChannels, element: Expr, i: int) -> tuple[Expr, Expr]:
        """Whether number ``i`` of a word is that of a channel, and which; of its element's."""
        part = i % self.frame.numbers
        inside = element < i32(channels.elements)
        if not part:
            return inside, element
        c = element + i32(part * channels.elements)
        return tir.all(inside, c < i32(channels.count)), c

    def _words(self, count: int, word: Callable[[Expr], None]) -> int:
        at = self.code.let(self.code.block * i32(THREADS) + self.code.thread, "int32", "at")
        with self.code.when(at < i32(count)):
            word(at)
        return -(-count // THREADS)

    def _pixels(
        self, stored: StoredOperand, channels: PaddedChannels, which: int, target: Expr
    ) -> int:
        """An operand of pixels."""
        if self.frame.in_words(stored.layout):
            return self._packed(stored, which, target)
        frame, wide = self.frame, channels.padded // self.each
        _, _, height, width = shape4(stored.layout)
        plane = frame.pixels(channels) // self.each

        def word(at: Expr) -> None:
            rest, first = self._divided(at, wide)
            pixel, g = self._divided(rest, frame.groups)
            n, h, w = unravel(self.code, pixel, height, width)

            def element(i: int) -> Element:
                at = first * i32(self.each) + i32(i // frame.numbers)
                inside, c = self._channel(channels, at, i)
                return inside, (n, g * i32(channels.count) + c, h, w)

            self._store(stored, which, element, target, at, plane)

        return self._words(plane, word)

    def _packed(self, stored: StoredOperand, which: int, target: Expr) -> int:
        """An operand of pixels by words of codes, see ``planes_of_word``."""
        code, frame, layout = self.code, self.frame, stored.layout
        f, planes, wide = layout.type.format, frame.planes[which], layout.cell // 4
        each = layout.channels // (self.each * frame.numbers)

        def word(at: Expr) -> None:
            pixel, first = self._divided(at, wide)
            codes = code.local("uint32", 1)
            source = address(stored.buffer, at * i32(4))
            ptx(code, "ld.global.b32", load(codes, i32(0)), source)
            numbers = planes_of_word(code, load(codes, i32(0)), f, frame.unit, planes)
            for p, parts in enumerate(numbers):
                for part, words in enumerate(parts):
                    place = (p * layout.rows * each) + part * wide * len(words)
                    place = pixel * i32(each) + first * i32(len(words)) + i32(place)
                    for i, one in enumerate(words):
                        code.store(target, place + i32(i), one)

        return self._words(layout.rows * wide, word)

    def _weights(self, stored: StoredOperand, sums: PhaseSums, offset: int, target: Expr) -> int:
        """Rows of k for each n, of a phase."""
        frame, phase = self.frame, sums.phase
        wide = sums.steps * frame.depth // self.each
        rows = sums.blocks[1] * frame.tile.n
        summed, kept = frame.first, frame.second
        if phase is None or not wide:
            return 0

        def word(at: Expr) -> None:
            rest, first = self._divided(at, wide)
            g, n = self._divided(rest, rows)

            def element(i: int) -> Element:
                k = first * i32(self.each) + i32(i // frame.numbers)
                tap, place = self._divided(k, summed.padded)
                down, right = self._divided(tap, phase.columns.taps)
                r, s = phase.rows.tap(down), phase.columns.tap(right)
                there, c = self._channel(summed, place, i)
                c = frame.channel(0, c)
                inside = tir.all(tap < i32(phase.taps), n < i32(kept.count), there)
                if frame.spec.direction == "forward":
                    return inside, (g * i32(kept.count) + n, c, r, s)
                return inside, (g * i32(summed.count) + c, n, r, s)

            plane = frame.weights // self.each
            self._store(stored, 1, element, target, at + i32(offset // self.each), plane)

        return self._words(frame.weights_of(sums) // self.each, word)

    def _divided(self, at: Expr, by: int) -> tuple[Expr, Expr]:
        code = self.code
        quotient = code.let(tir.floordiv(at, i32(by)), "int32")
        return quotient, code.let(tir.floormod(at, i32(by)), "int32")

    def _store(
        self,
        stored: StoredOperand,
        which: int,
        element: Callable[[int], Element],
        target: Expr,
        at: Expr,
        plane: int,
    ) -> None:
        """A word of every plane."""
        code, f32 = self.code, self.frame.unit is Unit.F32
        count = len(self.frame.planes[which])
        words = code.local("float32" if f32 else "uint32", count)
        for p in range(count):
            code.store(words, i32(p), tir.const(0, "float32") if f32 else u32(0))
        each = self.each * self.frame.numbers
        for i in range(each):
            inside, place = element(i)
            with code.when(inside):
                for p, part in enumerate(self._parts(stored, which, place)):
                    shifted = part if f32 else load(words, i32(p)) | (part << u32(32 // each * i))
                    code.store(words, i32(p), shifted)
        for p in range(count):
            code.store(target, at + i32(p * plane), load(words, i32(p)))

    def _parts(self, stored: StoredOperand, which: int, place: Coordinates) -> Sequence[Expr]:
        """A number as it is in an element of every plane, in the low bits of a word."""
        code, v = self.code, Vectors(self.code, 1)
        if self.frame.unit in INTEGERS:
            number = v.unsigned(keep(code, stored.integer(place), "int32"))
            low = number & u32((1 << 8 // self.frame.numbers) - 1)
            if len(self.frame.planes[which]) == 1:
                return [low]
            return [low, (number >> u32(8)) & u32(0xFF)]
        x = stored.number(place)
        if self.frame.unit is Unit.BF16_MMA:
            return [v.bits(x) >> u32(16)]
        scale = self.slots.b_scale
        if which and self.frame.spec.scaled_rows and scale is not None:
            x = v.mul(x, v.f(load(scale, place[0])))
        return [x]
