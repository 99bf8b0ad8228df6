"""What a block leaves of its results for statistics of the batch, see ``stats``."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Expr, Vectors, i32, load
from ...tir.pointwise.space import STRIPE
from ..code import DeviceCode
from ..pointwise.sums import Scratch, add_moment
from .copies import TileBlock


@dataclass(frozen=True, eq=False, slots=True)
class FinishedColumns:
    """Results in shared memory, as they are stored: columns of a tile from ``first`` on."""

    shared: Expr
    first: int
    width: int
    pitch: int


def leave_moments(
    code: DeviceCode, block: TileBlock, columns: FinishedColumns, scratch: Scratch
) -> None:
    """A thread takes a stripe of rows of a channel, as one of a pointwise kernel does."""
    frame, sums, v = block.frame, block.sums, Vectors(code, 1)
    rows = min(STRIPE, frame.tile.m)
    whole = sums.m % frame.tile.m == 0
    with code.strided(frame.tile.m // rows * columns.width) as at:
        n = code.let(tir.floormod(at, i32(columns.width)), "int32", "n")
        top = code.let(tir.floordiv(at, i32(columns.width)) * i32(rows), "int32", "top")
        column = block.n + n + i32(columns.first)
        with code.when(tir.all(block.m + top < i32(sums.m), column < i32(sums.n))):
            places = [(code.local("float32", 1), i32(0)) for _ in range(3)]
            for place in places:
                code.store(*place, tir.const(0.0, "float32"))
            with code.loop(rows) as r:
                inside = i32(0).equal(i32(0)) if whole else block.m + top + r < i32(sums.m)
                with code.when(inside):
                    x = v.f(load(columns.shared, (top + r) * i32(columns.pitch) + n))
                    add_moment(v, places, x, r.equal(i32(0)))
            channel = block.g * i32(frame.second.count) + column
            stripe = tir.floordiv(block.m + top, i32(STRIPE))
            for k, place in enumerate(places):
                code.store(scratch.single, scratch.place(k, stripe, channel), load(*place))
