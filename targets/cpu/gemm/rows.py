"""Rows: a band of an image unpacked into scratch, with the borders that its taps reach."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...gemm.geometry import Geometry, Phase
from ...tir.expr import Code, Expr, Index
from .cells import Cells
from .unpack import Unpacker
from .vectors import fill


@dataclass(frozen=True, slots=True)
class Rows:
    """Scratch of ``height(n)`` x ``width(m)`` pixels for n x m places."""

    geo: Geometry

    @property
    def skip(self) -> tuple[int, int]:
        """Input step between neighbours in scratch: the stride where only one tap reads."""
        rows, columns = (
            side.stride if all(p.taps <= 1 for p in side.phases) else 1
            for side in (self.geo.rows, self.geo.columns)
        )
        return rows, columns

    @property
    def step(self) -> tuple[int, int]:
        """Scratch pixels between neighbouring places, down and across."""
        rows, columns = self.geo.rows.stride, self.geo.columns.stride
        return rows // self.skip[0], columns // self.skip[1]

    def width(self, places: int) -> int:
        """Scratch pixels a row."""
        low, high = self.geo.columns.reach
        return ((places - 1) * self.geo.columns.stride + high - low) // self.skip[1] + 1

    def height(self, places: int) -> int:
        """Scratch rows."""
        low, high = self.geo.rows.reach
        return ((places - 1) * self.geo.rows.stride + high - low) // self.skip[0] + 1

    def shift(self, phase: Phase, tap: tuple[Index, Index]) -> tuple[Index, Index]:
        """Scratch pixels, down and across, from a place to what a tap of a phase reads for it."""
        down, across = (
            (axis.offset - side.reach[0]) // skip + t * (axis.slope // skip)
            for side, axis, t, skip in zip(
                (self.geo.rows, self.geo.columns), phase.axes, tap, self.skip, strict=True
            )
        )
        return down, across


@dataclass(frozen=True, eq=False, slots=True)
class BandUnpacker:
    """Fills ``rows`` of scratch, ``pitch`` elements a pixel; the borders are ``zero``."""

    code: Code
    rows: Rows
    unpacker: Unpacker
    pitch: int
    zero: float

    def unpack(
        self, to: Expr, start: Index, image: Index, first: Index, size: tuple[int, int]
    ) -> None:
        """The band of ``size`` places that begins with row ``first`` of an image's places."""
        code, geo, width = self.code, self.rows.geo, self.rows.width(size[1])
        top = first * geo.rows.stride + geo.rows.reach[0]
        with code.loop(self.rows.height(size[0])) as i:
            h = code.let(top + i * self.rows.skip[0], "int32", "h")
            inside = tir.all(h >= 0, h < geo.height)
            line = start + i * (width * self.pitch)
            with code.when(inside):
                self._line(to, line, image, h, width)
            with code.when(tir.Not(inside)):
                self._blank(to, line, width)

    def _line(self, to: Expr, start: Index, image: Index, h: Expr, width: int) -> None:
        geo, step = self.rows.geo, self.rows.skip[1]
        low = geo.columns.reach[0]
        left = min(width, max(0, -(low // step)))
        right = min(width, max(left, (geo.width - 1 - low) // step + 1))
        self._blank(to, start, left)
        if right > left:
            at = (image, h, low + left * step)
            cells = Cells(start + left * self.pitch, self.pitch)
            self.unpacker.row(to, cells, at, right - left, step)
        self._blank(to, start + right * self.pitch, width - right)

    def _blank(self, to: Expr, start: Index, pixels: int) -> None:
        lanes = self.unpacker.vector_bytes * 8 // self.unpacker.numbers.width
        fill(self.code, to, start, pixels * self.pitch, self.zero, lanes)
