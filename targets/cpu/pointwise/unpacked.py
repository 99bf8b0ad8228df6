"""Packed values a row at a time: unpacked to a byte a code, and packed when the row is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Expr, i32, load, ramp
from ...tir.pointwise.point import Point
from .walk import Enter, Take, Walk, packed, points, stored


@dataclass(frozen=True, eq=False)
class UnpackedWalk(Walk):
    """Rows whose packed values have a row of codes in memory, one for each block."""

    @contextmanager
    def memory(self, blocks: int) -> Iterator[Enter]:
        """See ``Walk``: a block gives each packed value its place."""
        frame, values = self.frame, packed(self.frame.spec)
        size = sum(self._padded(i) for i in values)
        with frame.code.workspace("uint8", size * blocks) as buffer:

            def enter(block: Expr) -> None:
                start = block * i32(size)
                for i in values:
                    frame.rowed[i] = (buffer, start)
                    start = start + i32(self._padded(i))

            yield enter

    def _padded(self, value: int) -> int:
        """Codes of a row with those that fill its last bytes."""
        layout = self.frame.spec.layout(value)
        return layout.cell * layout.parts

    def row(self, row: Expr, take: Take) -> None:
        """See ``Walk``."""
        spec = self.frame.spec
        for i in packed(spec):
            if i in spec.inputs:
                self._unpack(i, row)
        for p in points(self.frame, self.lanes, row):
            self.write(p)
            take(p)
        for i in packed(spec):
            if i in spec.outputs:
                self._pack(i, row)

    def write(self, p: Point) -> None:
        """See ``Walk``: keeps the codes of packed results."""
        for i in stored(self.frame.spec):
            if i in self.frame.rowed:
                buffer, start = self.frame.rowed[i]
                codes = p.v.cast(p.code(i), "uint8")
                p.v.code.store(buffer, ramp(start + p.first, p.v.lanes), codes)
            else:
                p.write(i)

    def _unpack(self, value: int, row: Expr) -> None:
        """Codes of a row, one a byte."""
        frame = self.frame
        layout, (buffer, start) = frame.spec.layout(value), frame.rowed[value]
        bits = layout.type.format.storage_bits
        for i in range(layout.parts):
            with frame.code.loop(layout.cell) as j:
                byte = load(frame.data[value], row * i32(layout.cell) + j)
                code = (byte >> tir.const(bits * i, "uint8")) & tir.const((1 << bits) - 1, "uint8")
                frame.code.store(buffer, start + j + i32(i * layout.cell), code)

    def _pack(self, value: int, row: Expr) -> None:
        """Bytes of a row; the codes that only fill its last bytes are zero."""
        frame = self.frame
        layout, (buffer, start) = frame.spec.layout(value), frame.rowed[value]
        for k in range(layout.channels, self._padded(value)):
            frame.code.store(buffer, start + i32(k), tir.const(0, "uint8"))
        bits = layout.type.format.storage_bits
        with frame.code.loop(layout.cell) as j:
            byte = load(buffer, start + j)
            for i in range(1, layout.parts):
                code = load(buffer, start + j + i32(i * layout.cell))
                byte = byte | (code << tir.const(bits * i, "uint8"))
            frame.code.store(frame.data[value], row * i32(layout.cell) + j, byte)
