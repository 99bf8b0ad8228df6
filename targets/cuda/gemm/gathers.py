"""Which elements of the operands the rows in shared memory hold, see ``frame``."""

from __future__ import annotations

from math import prod

from tvm import tirx as tir

from ...gemm.shapes import shape4
from ...tir.expr import Expr, i32, load
from ..ptx import keep
from .copies import Copies, PieceTarget
from .maps import unravel

OUTSIDE = -(1 << 20)  # a row of an image that no tap reaches


class PixelRows(Copies):
    """``a`` of forward and dX: rows are results, k is taps and channels."""

    @property
    def again(self) -> bool:
        """See ``Copies``."""
        return prod(self.frame.taps) > 1

    def prepare(self) -> None:
        """The first pixel of every row."""
        block = self.block
        code, phase, geometry = self.code, block.sums.phase, self.frame.geometry
        assert phase is not None
        self.top, self.left, self.pixel = (code.local("int32", self.count) for _ in range(3))
        for piece in self.pieces:
            m = code.let(block.m + piece.row, "int32", "m")
            image, y, x = unravel(code, m, phase.rows.places, phase.columns.places)
            top = y * i32(geometry.rows.stride) + i32(phase.rows.offset)
            left = x * i32(geometry.columns.stride) + i32(phase.columns.offset)
            pixel = (image * i32(geometry.height) + top) * i32(geometry.width) + left
            top = tir.Select(m < i32(block.sums.m), top, i32(OUTSIDE))
            for register, value in ((self.top, top), (self.left, left), (self.pixel, pixel)):
                code.store(register, i32(piece.i), value)

    def fetch(self, step: Expr, target: PieceTarget) -> None:
        """See ``Copies``."""
        code, frame, phase = self.code, self.frame, self.block.sums.phase
        assert phase is not None
        channels, geometry = frame.first, frame.geometry
        apart = i32(frame.groups * channels.padded)
        k = code.let(step * i32(frame.depth) + self.first.element, "int32", "k")
        tap = code.let(tir.floordiv(k, i32(channels.padded)), "int32", "tap")
        c = code.let(tir.floormod(k, i32(channels.padded)), "int32", "c")
        c = c + self.block.g * i32(channels.padded)
        taps = i32(phase.columns.taps)
        down = keep(code, tir.floordiv(tap, taps) * i32(phase.rows.slope), "int32")
        right = keep(code, tir.floormod(tap, taps) * i32(phase.columns.slope), "int32")
        first = keep(code, (down * i32(geometry.width) + right) * apart + c, "int32")
        for piece in self.pieces:
            inside = tir.all(
                tap < i32(phase.taps),
                within(load(self.top, i32(piece.i)) + down, geometry.height),
                within(load(self.left, i32(piece.i)) + right, geometry.width),
            )
            self.copy(piece, target, load(self.pixel, i32(piece.i)) * apart + first, inside)


class WeightRows(Copies):
    """``b`` of forward and dX: rows of k for each channel out."""

    def fetch(self, step: Expr, target: PieceTarget) -> None:
        """See ``Copies``."""
        block, frame = self.block, self.frame
        length = block.sums.steps * frame.depth
        row = block.g * i32(block.sums.blocks[1] * frame.tile.n) + block.n
        first = row * i32(length) + step * i32(frame.depth)
        for piece in self.pieces:
            at = first + piece.row * i32(length) + piece.element
            self.copy(piece, target, at, None)


class GradRows(Copies):
    """``a`` of dW: rows are pixels, in order."""

    by_row = True

    def fetch(self, step: Expr, target: PieceTarget) -> None:
        """See ``Copies``."""
        block, frame = self.block, self.frame
        n, _, h, w = shape4(frame.spec.a)
        channels = frame.first
        for piece in self.pieces:
            pixel = step * i32(frame.depth) + piece.row
            channel = block.m + piece.element
            inside = tir.all(pixel < i32(n * h * w), channel < i32(channels.padded))
            at = (pixel * i32(frame.groups) + block.g) * i32(channels.padded) + channel
            self.copy(piece, target, at, inside)


class ImageRows(Copies):
    """``b`` of dW: rows are pixels of dY, columns what a tap sees there."""

    by_row = True

    @property
    def again(self) -> bool:
        """See ``Copies``."""
        return prod(self.frame.taps) > 1

    def prepare(self) -> None:
        """The tap and the channel of every piece."""
        block, code, frame, spec = self.block, self.code, self.frame, self.frame.spec
        _, _, _, width = shape4(spec.b)
        padded = frame.second.padded
        self.down, self.right, self.offset = (code.local("int32", self.count) for _ in range(3))
        for piece in self.pieces:
            n = code.let(block.n + piece.element, "int32", "n")
            tap = code.let(tir.floordiv(n, i32(padded)), "int32", "tap")
            channel = block.g * i32(padded) + tir.floormod(n, i32(padded))
            down = tir.floordiv(tap, i32(frame.taps[1])) * i32(spec.dilation[0])
            right = tir.floormod(tap, i32(frame.taps[1])) * i32(spec.dilation[1])
            offset = (down * i32(width) + right) * i32(frame.groups * padded) + channel
            down = tir.Select(n < i32(block.sums.n), down, i32(OUTSIDE))
            for register, value in ((self.down, down), (self.right, right), (self.offset, offset)):
                code.store(register, i32(piece.i), value)

    def fetch(self, step: Expr, target: PieceTarget) -> None:
        """See ``Copies``."""
        code, frame, spec = self.code, self.frame, self.frame.spec
        count, _, rows, columns = shape4(spec.a)
        _, _, height, width = shape4(spec.b)
        apart = i32(frame.groups * frame.second.padded)
        first: tuple[Expr, Expr, Expr] | None = None
        for piece in self.pieces:
            if first is None or not self.shape[2]:
                pixel = code.let(step * i32(frame.depth) + piece.row, "int32", "pixel")
                image, p, q = unravel(code, pixel, rows, columns)
                top = keep(code, p * i32(spec.stride[0]) - i32(spec.padding[0]), "int32")
                left = keep(code, q * i32(spec.stride[1]) - i32(spec.padding[1]), "int32")
                seen = ((image * i32(height) + top) * i32(width) + left) * apart
                seen = keep(code, seen, "int32")
                outside = pixel >= i32(count * rows * columns)
                top = keep(code, tir.Select(outside, i32(OUTSIDE), top), "int32")
                first = top, left, seen
            top, left, seen = first
            inside = tir.all(
                within(top + load(self.down, i32(piece.i)), height),
                within(left + load(self.right, i32(piece.i)), width),
            )
            self.copy(piece, target, seen + load(self.offset, i32(piece.i)), inside)


def within(place: Expr, extent: int) -> Expr:
    """0 <= place < extent."""
    return tir.Cast("uint32", place) < tir.const(extent, "uint32")
