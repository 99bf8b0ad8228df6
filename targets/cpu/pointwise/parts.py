"""Packed values in whole vectors of bytes: a vector of channels for each part of the bytes.

The parts of a byte are channels ``cell`` apart, so vectors at ``parts`` places of a row make whole
bytes. Values with fewer codes a byte take several vectors of bytes for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...tir.expr import Expr, Vectors, i32, load, ramp, typed
from ...tir.pointwise.point import Point
from .walk import Take, Walk, packed, point, stored


@dataclass(frozen=True, eq=False)
class PartWalk(Walk):
    """Rows by vectors of bytes of the value with most codes a byte, ``parts`` of them."""

    parts: int

    @property
    def cell(self) -> int:
        """Bytes of a row of that value."""
        return self.frame.space.channels // self.parts

    def row(self, row: Expr, take: Take) -> None:
        """See ``Walk``."""
        with self.frame.code.loop(self.cell // self.lanes) as turn:
            j = turn * i32(self.lanes)
            loaded: dict[tuple[int, int], Expr] = {}
            parts: list[Point] = []
            for q in range(self.parts):
                p = point(self.frame, self.lanes, row, j + i32(q * self.cell))
                p.part = _PartCodes(self, loaded, row, j, q)
                self.write(p)
                take(p)
                parts.append(p)
            for i in stored(self.frame.spec):
                if i in packed(self.frame.spec):
                    self._join(i, parts, row, j)

    def _join(self, value: int, parts: Sequence[Point], row: Expr, j: Expr) -> None:
        """Store the bytes of a packed result, from the codes of all parts."""
        layout, v = self.frame.spec.layout(value), parts[0].v
        step = self.parts // layout.parts
        for m in range(step):
            byte = parts[m].code(value)
            for i in range(1, layout.parts):
                shift = v.u(i * layout.type.format.storage_bits)
                byte = byte | (parts[i * step + m].code(value) << shift)
            at = row * i32(layout.cell) + j + i32(m * self.cell)
            v.code.store(self.frame.data[value], ramp(at, v.lanes), v.cast(byte, "uint8"))


@dataclass(frozen=True, eq=False, slots=True)
class _PartCodes:
    """Codes of packed inputs at part ``q``: bytes are ``loaded`` once for all that share them."""

    walk: PartWalk
    loaded: dict[tuple[int, int], Expr]
    row: Expr
    j: Expr
    q: int

    def __call__(self, value: int) -> Expr:
        walk, frame = self.walk, self.walk.frame
        layout, v = frame.spec.layout(value), Vectors(frame.code, walk.lanes)
        part, m = divmod(self.q, walk.parts // layout.parts)
        if (value, m) not in self.loaded:
            at = self.row * i32(layout.cell) + self.j + i32(m * walk.cell)
            raw = load(frame.data[value], ramp(at, v.lanes))
            self.loaded[value, m] = frame.code.let(raw, typed("uint8", v.lanes))
        bits = layout.type.format.storage_bits
        byte = v.cast(self.loaded[value, m], "uint32")
        return (byte >> v.u(part * bits)) & v.u((1 << bits) - 1)
