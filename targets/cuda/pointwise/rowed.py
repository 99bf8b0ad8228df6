"""Packed results whose rows end within a byte: codes of a block's rows meet in shared memory."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx as tir

from ...tir.expr import Expr, i32, load
from ...tir.pointwise.point import Frame, Point
from ..code import DeviceCode
from .geometry import PointwiseGrid


class RowCodes:
    """A byte a code, of ``PointwiseGrid.down`` rows of each packed result."""

    def __init__(self, frame: Frame, code: DeviceCode, geometry: PointwiseGrid) -> None:
        self._frame, self._code, self._geometry = frame, code, geometry
        spec, self._starts, size = frame.spec, dict[int, int](), 0
        for i in spec.outputs:
            if i in spec.whole and spec.layout(i).parts > 1:
                self._starts[i] = size
                size += geometry.down * self._width(i)
        self._tile = code.shared("uint8", size)

    def _width(self, value: int) -> int:
        """Codes of a row with those that fill its last bytes."""
        layout = self._frame.spec.layout(value)
        return layout.cell * layout.parts

    def enter(self, line: Expr) -> None:
        """A turn of a line of threads begins."""
        self._line = line

    def keep(self, p: Point) -> None:
        """The codes of a point."""
        for i, start in self._starts.items():
            place = i32(start) + self._line * i32(self._width(i)) + p.first
            self._code.store(self._tile, place, p.v.cast(p.code(i), "uint8"))

    def pack(self, row_of: Callable[[Expr], Expr]) -> None:
        """Bytes of all rows of a turn; the codes that only fill the last ones are zero."""
        self._code.barrier()
        for i in self._starts:
            self._pack(i, row_of)

    def _pack(self, value: int, row_of: Callable[[Expr], Expr]) -> None:
        code, layout = self._code, self._frame.spec.layout(value)
        bits = layout.type.format.storage_bits
        with code.turns(self._geometry.down * layout.cell) as at:
            d, j = tir.floordiv(at, i32(layout.cell)), tir.floormod(at, i32(layout.cell))
            row = code.let(row_of(d), "int32", "row")
            with code.when(row < i32(self._frame.space.rows)):
                place = i32(self._starts[value]) + d * i32(self._width(value)) + j
                byte = tir.const(0, "uint8")
                for k in range(layout.parts):
                    one = code.let(load(self._tile, place + i32(k * layout.cell)), "uint8")
                    inside = j < i32(layout.channels - k * layout.cell)
                    shifted = one << tir.const(bits * k, "uint8")
                    byte = byte | tir.Select(inside, shifted, tir.const(0, "uint8"))
                code.store(self._frame.data[value], row * i32(layout.cell) + j, byte)
