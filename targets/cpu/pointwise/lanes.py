"""Packed values of few channels: a vector covers several parts of a row's bytes.

A row of 16 channels in 2 bits is four bytes, each with channels 4 apart. Its codes come out by
repeating the bytes over the lanes and shifting each lane by its part, and go in by the reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx as tir

from ...plan.layout import Layout
from ...tir.expr import Expr, Vectors, i32, load, ramp, shuffle, typed
from ...tir.pointwise.point import Frame, Point
from .walk import Take, Walk, packed, point, stored


def fits(layouts: Sequence[Layout], lanes: int) -> bool:
    """Whether vectors of ``lanes`` channels cover whole parts, or parts whole vectors."""
    return all(
        not x.channels % lanes and (not lanes % x.cell or not x.cell % lanes) for x in layouts
    )


@dataclass(frozen=True, eq=False)
class VectorWalk(Walk):
    """Rows whose packed values have few channels, vector by vector."""

    def row(self, row: Expr, take: Take) -> None:
        """See ``Walk``."""
        vectors: list[Point] = []
        for first in range(0, self.frame.space.channels, self.lanes):
            p = point(self.frame, self.lanes, row, i32(first))
            p.part = _RowCodes(self.frame, row, first, self.lanes)
            self.write(p)
            take(p)
            vectors.append(p)
        for i in stored(self.frame.spec):
            if i in packed(self.frame.spec):
                _store_row(i, vectors, row)


@dataclass(frozen=True, eq=False, slots=True)
class _RowCodes:
    """Codes of packed inputs at the vector that begins with channel ``first`` of ``row``."""

    frame: Frame
    row: Expr
    first: int
    lanes: int

    def __call__(self, value: int) -> Expr:
        layout = self.frame.spec.layout(value)
        f, cell, v = layout.type.format, layout.cell, Vectors(self.frame.code, self.lanes)
        some = min(cell, self.lanes)
        at = self.row * i32(cell) + i32(self.first % cell)
        raw = v.code.let(load(self.frame.data[value], ramp(at, some)), typed("uint8", some))
        wide = tir.Cast(typed("uint32", some), raw)
        repeated = shuffle([wide] * (self.lanes // some), range(self.lanes))
        shifted = repeated >> _shifts(layout, self.first, self.lanes)
        return shifted & v.u((1 << f.bits) - 1)


def _store_row(value: int, points: Sequence[Point], row: Expr) -> None:
    """Store the bytes of a packed result from the codes of all vectors of a row."""
    frame, v = points[0].frame, points[0].v
    layout = frame.spec.layout(value)
    some = min(layout.cell, v.lanes)
    joined: dict[int, Expr] = {}
    for i, p in enumerate(points):
        first = i * v.lanes
        codes = v.hold(p.code(value) << _shifts(layout, first, v.lanes))
        folded = _folded(v, codes, some)
        place = first % layout.cell
        joined[place] = joined[place] | folded if place in joined else folded
    for place, codes in joined.items():
        at = row * i32(layout.cell) + i32(place)
        stored = tir.Cast(typed("uint8", some), codes)
        frame.code.store(frame.data[value], ramp(at, some), stored)


def _folded(v: Vectors, codes: Expr, lanes: int) -> Expr:
    """Runs of ``lanes`` lanes joined by or."""
    width = v.lanes
    while width > lanes:
        width //= 2
        halves = [shuffle([codes], range(i, i + width)) for i in (0, width)]
        codes = Vectors(v.code, width).hold(halves[0] | halves[1])
    return codes


def _shifts(layout: Layout, first: int, lanes: int) -> Expr:
    """How far the code of each lane is shifted in its byte."""
    bits = layout.type.format.storage_bits
    parts = [(first + i) // layout.cell for i in range(lanes)]
    return shuffle([tir.const(bits * part, "uint32") for part in parts], range(lanes))
