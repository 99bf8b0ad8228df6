"""Windows that slide over a plane, in generated code: which elements each sees, which see each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from ...compiler.ir import Op
from ...compiler.types import Shape
from .expr import Code, Expr, i32

Pair = tuple[int, int]
TapPlace = tuple[Expr, Expr, Expr]


@dataclass(frozen=True, slots=True)
class Windows:
    """A window of ``kernel`` taps at ``places`` of a plane of ``size``, numbers as (rows, columns).

    Places may reach beyond the padding (ceil mode).
    """

    size: Pair
    places: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @classmethod
    def of(cls, op: Op, plane: Shape, places: Shape) -> Windows:
        """The windows of a pooling op between two images."""
        dilation = op.ints_attr("dilation") if "dilation" in op.attrs else (1, 1)
        lists = [op.ints_attr(k) for k in ("kernel", "stride", "padding")]
        return cls(*map(_pair, (plane[2:], places[2:], *lists, dilation)))

    @contextmanager
    def taps(self, code: Code, i: Expr, j: Expr) -> Iterator[TapPlace]:
        """For each tap within the plane, row by row: its number and the element it sees."""
        with code.loop(self.kernel[0]) as r:
            h = self._seen(0, i, r)
            with code.when(self._within(h, self.size[0])), code.loop(self.kernel[1]) as c:
                w = self._seen(1, j, c)
                with code.when(self._within(w, self.size[1])):
                    yield r * i32(self.kernel[1]) + c, h, w

    @contextmanager
    def around(self, code: Code, h: Expr, w: Expr) -> Iterator[TapPlace]:
        """For each window that sees an element, ascending: the tap that does, and its place."""
        with code.loop(self.kernel[0]) as n:
            r = i32(self.kernel[0] - 1) - n
            i, sees = self._sees(0, h, r)
            with code.when(sees), code.loop(self.kernel[1]) as m:
                c = i32(self.kernel[1] - 1) - m
                j, seen = self._sees(1, w, c)
                with code.when(seen):
                    yield r * i32(self.kernel[1]) + c, i, j

    def divisor(self, op: Op, i: Expr, j: Expr) -> Expr:
        """What a place of an average divides by, as f32: see ``reference/pool``."""
        if fixed := op.int_attr("divisor"):
            return tir.const(float(fixed), "float32")
        counts = []
        for d, place in enumerate((i, j)):
            start = place * i32(self.stride[d]) - i32(self.padding[d])
            end = tir.min(start + i32(self.kernel[d]), i32(self.size[d] + self.padding[d]))
            if not op.bool_attr("count_include_pad"):
                start, end = tir.max(start, i32(0)), tir.min(end, i32(self.size[d]))
            counts.append(end - start)
        return tir.Cast("float32", counts[0] * counts[1])

    def _seen(self, d: int, place: Expr, tap: Expr) -> Expr:
        step = place * i32(self.stride[d]) + tap * i32(self.dilation[d])
        return step - i32(self.padding[d])

    def _within(self, x: Expr, size: int) -> Expr:
        return tir.all(x >= i32(0), x < i32(size))

    def _sees(self, d: int, x: Expr, tap: Expr) -> tuple[Expr, Expr]:
        """The place whose tap sees element ``x``, and whether there is one."""
        offset = x + i32(self.padding[d]) - tap * i32(self.dilation[d])
        place = tir.floordiv(offset, i32(self.stride[d]))
        exact = tir.floormod(offset, i32(self.stride[d])).equal(i32(0))
        return place, tir.all(offset >= i32(0), exact, place < i32(self.places[d]))


def _pair(numbers: Shape) -> Pair:
    a, b = numbers
    return a, b
