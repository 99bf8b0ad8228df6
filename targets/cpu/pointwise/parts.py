"""Packed values in whole vectors of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ...tir.expr import Expr, i32
from ...tir.pointwise.parts import Parts
from ...tir.pointwise.point import Point
from .walk import Take, Walk, packed, point, stored


@dataclass(frozen=True, eq=False)
class PartWalk(Walk):
    """Rows by vectors of bytes of the value with most codes a byte, ``parts`` of them."""

    parts: int

    def row(self, row: Expr, take: Take) -> None:
        """See ``Walk``."""
        cell = self.frame.space.channels // self.parts
        with self.frame.code.loop(cell // self.lanes) as turn:
            j = turn * i32(self.lanes)
            bytes_ = Parts(self.frame, self.lanes, self.parts, row, j)
            points: list[Point] = []
            for q in range(self.parts):
                p = point(self.frame, self.lanes, row, j + i32(q * cell))
                p.part = bytes_.codes(q)
                self.write(p)
                take(p)
                points.append(p)
            for i in stored(self.frame.spec):
                if i in packed(self.frame.spec):
                    bytes_.join(i, points)
