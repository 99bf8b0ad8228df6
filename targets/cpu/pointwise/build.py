"""The loops of a pointwise kernel: blocks of rows in parallel, and the rows of each.

``choose_walk`` says how a row is walked, ``reduce`` what becomes of the reductions that end here.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Expr, i32
from ...tir.pointwise.buffers import frame_of, parameters
from ...tir.pointwise.point import Frame
from ...tir.pointwise.prologue import (
    channel_constants,
    compute_scalars,
    lists,
    only_first,
    store_scales,
)
from ...tir.pointwise.space import STRIPE, PointwiseSpec
from ...tir.pointwise.squeeze import tables
from ...tir.pointwise.stripes import blocks
from ...tir.pointwise.tails import channel_tails, lane_tails
from ..dialect import function
from .choose_walk import choose_walk
from .reduce import Reductions
from .walk import Walk, point


def build(spec: PointwiseSpec) -> tir.PrimFunc:
    """The function of a spec."""
    shapes = list(parameters(spec).values())
    return function(shapes, lambda code, given: _emit(frame_of(spec, code, given)))


def _emit(frame: Frame) -> None:
    """The whole kernel."""
    code, space, walk = frame.code, frame.space, choose_walk(frame)
    block_rows, count = blocks(space.rows, space.channels)
    spare = 1 if space.rest else 0
    tails = Reductions(frame, count + spare, walk.lanes, channel_tails(frame), lane_tails(frame))
    compute_scalars(frame)
    store_scales(frame)
    if (first := only_first(frame)) is not None:
        for i in frame.spec.outputs:
            code.store(frame.data[i], i32(0), tir.const(0.0, "float32"))
    with (
        code.when(first) if first is not None else nullcontext(),
        channel_constants(frame, walk.lanes),
        tables(frame, walk.lanes),
        lists(frame),
        tails.memory(),
        walk.memory(count) as enter,
    ):
        with code.blocks(count) as number:
            enter(number)
            _Block(frame, walk, tails, number).rows(block_rows)
        if spare:
            _Block(frame, walk, tails, i32(count)).rest()
        tails.finish(block_rows)


@dataclass(frozen=True, eq=False, slots=True)
class _Block:
    """A block of a kernel, with the number of its partial sums."""

    frame: Frame
    walk: Walk
    tails: Reductions
    number: Expr

    def rows(self, count: int) -> None:
        """All rows of a block of ``count``, in stripes where something is reduced."""
        code, tails = self.frame.code, self.tails
        first = self.number * i32(count)
        rows = tir.min(i32(count), i32(self.frame.space.rows) - first)
        if not tails.any:
            with code.loop(rows) as r:
                self.walk.row(first + r, lambda p: None)
            return
        tails.start(self.number)
        with code.loop(tir.floordiv(rows + i32(STRIPE - 1), i32(STRIPE))) as stripe:
            before = stripe * i32(STRIPE)
            some = tir.min(i32(STRIPE), rows - before)
            with code.loop(some) as r:
                starts = r.equal(i32(0))
                self.walk.row(first + before + r, lambda p: tails.add(p, self.number, starts))
            tails.flush(self.number, before, some)
        tails.end(self.number)

    def rest(self) -> None:
        """The elements behind the last vector of a flat space."""
        space, tails = self.frame.space, self.tails
        tails.start(self.number)
        with self.frame.code.loop(space.rest) as c:
            p = point(self.frame, 1, i32(space.rows), c)
            self.walk.write(p)
            tails.add(p, self.number, c.equal(i32(0)))
        tails.flush(self.number, i32(0), i32(1))
        tails.end(self.number)
