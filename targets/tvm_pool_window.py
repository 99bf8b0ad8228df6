"""Windows of pooling in generated code: the taps of a place, the places around an element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx as tir

from ..compiler.ir import Attr
from .tvm_expr import Code, Expr, i32

Pixel = tuple[Expr, Expr]
Ints = tuple[int, ...]


class Window(Protocol):
    """Which elements of a plane a place sees."""

    def taps(self, code: Code, place: Pixel) -> AbstractContextManager[tuple[Pixel, Expr]]:
        """Run the body for each element in the window of ``place``, with its number, row by row."""

    def around(self, code: Code, pixel: Pixel) -> AbstractContextManager[tuple[Pixel, Expr]]:
        """Run the body for each place whose window holds ``pixel``, with the pixel's number in it.

        Places come row by row.
        """

    def divisor(self, place: Pixel) -> Expr:
        """What the average of ``place`` divides by, as i32."""


@dataclass(frozen=True)
class Sliding:
    """A window of fixed size that moves by ``stride``."""

    plane: Ints
    places: Ints
    kernel: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    count_include_pad: bool
    fixed_divisor: int

    @classmethod
    def of(cls, attrs: Mapping[str, Attr], plane: Ints, places: Ints) -> Sliding:
        """From the attributes of a pooling op."""

        def ints(name: str, default: Ints) -> Ints:
            value = attrs.get(name, default)
            assert isinstance(value, tuple)
            return value

        return cls(
            plane,
            places,
            ints("kernel", ()),
            ints("stride", ()),
            ints("padding", ()),
            ints("dilation", (1, 1)),
            bool(attrs.get("count_include_pad", False)),
            int(str(attrs.get("divisor", 0))),
        )

    @contextmanager
    def taps(self, code: Code, place: Pixel) -> Iterator[tuple[Pixel, Expr]]:
        """See ``Window.taps``; taps outside of the plane are left out."""
        with code.loop(self.kernel[0]) as r, code.loop(self.kernel[1]) as s:
            y, x = (
                place[i] * i32(self.stride[i]) + tap * i32(self.dilation[i]) - i32(self.padding[i])
                for i, tap in enumerate((r, s))
            )
            with code.when(_inside((y, x), self.plane)):
                yield (y, x), r * i32(self.kernel[1]) + s

    @contextmanager
    def around(self, code: Code, pixel: Pixel) -> Iterator[tuple[Pixel, Expr]]:
        """See ``Window.around``: the last tap belongs to the first place."""
        with code.loop(self.kernel[0]) as r, code.loop(self.kernel[1]) as s:
            taps = [i32(self.kernel[i] - 1) - t for i, t in enumerate((r, s))]
            moved = [
                pixel[i] + i32(self.padding[i]) - taps[i] * i32(self.dilation[i]) for i in range(2)
            ]
            y, x = (tir.floordiv(m, i32(self.stride[i])) for i, m in enumerate(moved))
            whole = [
                tir.floormod(m, i32(self.stride[i])).equal(i32(0)) for i, m in enumerate(moved)
            ]
            with code.when(tir.all(_inside((y, x), self.places), *whole)):
                yield (y, x), taps[0] * i32(self.kernel[1]) + taps[1]

    def divisor(self, place: Pixel) -> Expr:
        """See ``Window.divisor``; what ceil mode sees beyond the padding never counts."""
        if self.fixed_divisor:
            return i32(self.fixed_divisor)
        return self._length(0, place[0]) * self._length(1, place[1])

    def _length(self, i: int, place: Expr) -> Expr:
        start = place * i32(self.stride[i]) - i32(self.padding[i])
        end = tir.min(start + i32(self.kernel[i]), i32(self.plane[i] + self.padding[i]))
        if not self.count_include_pad:
            start, end = tir.max(start, i32(0)), tir.min(end, i32(self.plane[i]))
        return end - start


@dataclass(frozen=True)
class Adaptive:
    """Windows that divide the plane: rows floor(i H / n) .. ceil((i + 1) H / n)."""

    plane: Ints
    places: Ints

    def _bounds(self, i: int, place: Expr) -> tuple[Expr, Expr]:
        size, count = i32(self.plane[i]), i32(self.places[i])
        end = tir.floordiv((place + i32(1)) * size + count - i32(1), count)
        return tir.floordiv(place * size, count), end

    @contextmanager
    def taps(self, code: Code, place: Pixel) -> Iterator[tuple[Pixel, Expr]]:
        """See ``Window.taps``; the number is the place in the plane."""
        (top, bottom), (left, right) = (self._bounds(i, place[i]) for i in range(2))
        with code.loop(bottom - top) as r, code.loop(right - left) as s:
            y, x = top + r, left + s
            yield (y, x), y * i32(self.plane[1]) + x

    @contextmanager
    def around(self, code: Code, pixel: Pixel) -> Iterator[tuple[Pixel, Expr]]:
        """See ``Window.around``."""
        with code.loop(self.places[0]) as i, code.loop(self.places[1]) as j:
            (top, bottom), (left, right) = self._bounds(0, i), self._bounds(1, j)
            y, x = pixel
            held = tir.all(y >= top, y < bottom, x >= left, x < right)
            with code.when(held):
                yield (i, j), y * i32(self.plane[1]) + x

    def divisor(self, place: Pixel) -> Expr:
        """See ``Window.divisor``."""
        (top, bottom), (left, right) = (self._bounds(i, place[i]) for i in range(2))
        return (bottom - top) * (right - left)


def _inside(pixel: Pixel, plane: Ints) -> Expr:
    y, x = pixel
    return tir.all(y >= i32(0), y < i32(plane[0]), x >= i32(0), x < i32(plane[1]))
