"""Where the rows and columns of a GEMM on tiles lie, see ``frame``."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...gemm.shapes import shape4
from ...tir.expr import Expr, i32
from ..code import DeviceCode
from .frame import PhaseSums, TileFrame

Coordinates = tuple[Expr, Expr, Expr, Expr]


def unravel(code: DeviceCode, at: Expr, height: int, width: int) -> tuple[Expr, Expr, Expr]:
    """Image, row and column of a pixel."""
    line = code.let(tir.floordiv(at, i32(width)), "int32", "line")
    return (
        code.let(tir.floordiv(line, i32(height)), "int32", "image"),
        code.let(tir.floormod(line, i32(height)), "int32", "y"),
        code.let(tir.floormod(at, i32(width)), "int32", "x"),
    )


@dataclass(frozen=True, eq=False)
class ResultPlaces:
    """Results of a phase."""

    code: DeviceCode
    frame: TileFrame
    sums: PhaseSums

    def place(self, g: Expr, m: Expr, n: Expr) -> tuple[Expr, Coordinates]:
        """Whether there is one at a row and a column, and its N, C, H, W."""
        within = tir.all(m < i32(self.sums.m), n < i32(self.sums.n))
        if self.frame.spec.weight_grad:
            return self._weight(within, g, m, n)
        return within, self._pixel(g, m, n)

    def _weight(self, within: Expr, g: Expr, m: Expr, n: Expr) -> tuple[Expr, Coordinates]:
        """Of dW."""
        code, frame = self.code, self.frame
        channels = frame.second
        tap = code.let(tir.floordiv(n, i32(channels.padded)), "int32", "tap")
        c = code.let(tir.floormod(n, i32(channels.padded)), "int32", "c")
        r, s = (f(tap, i32(frame.taps[1])) for f in (tir.floordiv, tir.floormod))
        place = g * i32(frame.first.count) + frame.channel(0, m), frame.channel(1, c), r, s
        return tir.all(within, c < i32(channels.count)), place

    def _pixel(self, g: Expr, m: Expr, n: Expr) -> Coordinates:
        """Of forward or dX."""
        code, frame, phase = self.code, self.frame, self.sums.phase
        assert phase is not None
        geometry, channel = frame.geometry, g * i32(frame.second.count) + n
        if geometry.flat:
            _, _, height, width = shape4(frame.spec.out)
            image, h, w = unravel(code, m, height, width)
            return image, channel, h, w
        image, y, x = unravel(code, m, phase.rows.places, phase.columns.places)
        h, w = geometry.output(phase, y, x)
        return image, channel, h, w
