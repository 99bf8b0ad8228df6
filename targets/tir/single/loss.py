"""Kernels of losses: log-softmax over dimension 1, negative log-likelihood, squared error's grad.

A row is one image, or one pixel of one, with its classes; rows are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod

from tvm import tirx as tir

from ...plan.layout import Layout
from ..expr import Expr, Vectors, i32, load
from ..math import exp, log
from ..pointwise.space import memory_dims, memory_strides
from .grid import Single, Spot, rounded
from .loops import Buffers, Join, Loops
from .sums import store_wide
from .total import add, wide

LANES = 8  # of f64: one register, or two


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One row of a tensor: an image where there are no pixels."""

    loops: Loops
    number: Expr
    pixels: int

    def spot(self, s: Spot, layout: Layout) -> tuple[Spot, dict[int, int]]:
        """Classes, from a spot that counts them, and their strides in a tensor."""
        strides, rank = memory_strides(layout), len(layout.type.shape)
        at = {1: s.at[0], 0: tir.floordiv(self.number, i32(self.pixels))}
        steps = {0: strides[0], 1: strides[1]}
        if rank > 2:  # pixels of an image lie at one distance from each other in both orders
            at[2] = tir.floormod(self.number, i32(self.pixels))
            steps[2] = strides[rank - 1]
        return Spot(s.v, at, 1), steps

    def read(self, s: Spot, buffer: Expr, layout: Layout) -> Expr:
        """Numbers in f64."""
        spot, strides = self.spot(s, layout)
        return wide(s.v).f(wide(s.v).cast(spot.number(buffer, layout, strides), "float64"))

    def write(self, s: Spot, buffer: Expr, layout: Layout, x: Expr) -> None:
        """Store f64 numbers in the format of a result."""
        spot, strides = self.spot(s, layout)
        store_wide(s.v, buffer, spot.index(strides), layout, x)

    def reduce(
        self, layout: Layout, term: Callable[[Spot], Expr], join: Join, start: float = 0.0
    ) -> Expr:
        """Join a term of all classes."""
        (made,) = self.loops.line(layout.type.shape[1], LANES, lambda s: [term(s)], [join], start)
        return made

    def each(self, layout: Layout, body: Callable[[Spot], None]) -> None:
        """Run ``body`` over all classes."""

        def nothing(s: Spot) -> list[Expr]:
            body(s)
            return []

        self.loops.line(layout.type.shape[1], LANES, nothing, [])


def over_rows(loops: Loops, layout: Layout, body: Callable[[Row], None]) -> None:
    """Run ``body`` for each row."""
    shape = layout.type.shape
    pixels = prod(shape[2:])
    loops.rows(shape[0] * pixels, shape[1], lambda r: body(Row(loops, r, pixels)))


def log_softmax(b: Buffers, spec: Single) -> None:
    """(x - max) - log of the sum of exp(x - max), in f64"""
    (x,), (y,) = spec.inputs, spec.outputs

    def shifted(row: Row, s: Spot, most: Expr) -> Expr:
        return wide(s.v).sub(row.read(s, b.inputs[0], x), wide(s.v).splat(most))

    def one(row: Row) -> None:
        most = row.reduce(x, lambda s: row.read(s, b.inputs[0], x), tir.max, -inf)
        sum_ = row.reduce(x, lambda s: exp(wide(s.v), shifted(row, s, most)), add)
        size = log(Vectors(b.code, 1, "float64"), sum_)

        def store(s: Spot) -> None:
            v = wide(s.v)
            row.write(s, b.outputs[0], y, v.sub(shifted(row, s, most), v.splat(size)))

        row.each(x, store)

    over_rows(b.loops, x, one)


def log_softmax_grad(b: Buffers, spec: Single) -> None:
    """g - exp(y) * sum g, in f64"""
    (g, y), (dx,) = spec.inputs, spec.outputs

    def one(row: Row) -> None:
        sum_ = row.reduce(g, lambda s: row.read(s, b.inputs[0], g), add)

        def store(s: Spot) -> None:
            v = wide(s.v)
            share = v.mul(exp(v, row.read(s, b.inputs[1], y)), v.splat(sum_))
            row.write(s, b.outputs[0], dx, v.sub(row.read(s, b.inputs[0], g), share))

        row.each(dx, store)

    over_rows(b.loops, dx, one)


def _label(b: Buffers, spec: Single, operand: int, layout: Layout, row: Expr) -> tuple[Expr, Expr]:
    """The class of a row, kept within the classes so that no label reads elsewhere; if it counts.

    Labels have no dimension of classes, so that rows lie in their logical order.
    """
    stored = spec.inputs[operand]
    label = b.code.let(load(b.inputs[operand], row), stored.dtype)
    ignored = tir.const(spec.op.int_attr("ignore_index"), stored.dtype)
    last = i32(layout.type.shape[1] - 1)
    inside = tir.max(tir.min(tir.Cast("int32", label), last), i32(0))
    return inside, tir.Not(label.equal(ignored))


def nll_loss(b: Buffers, spec: Single) -> None:
    """Minus the mean or sum of y at the labels; the number of labels that count."""
    y = spec.inputs[0]
    v = Vectors(b.code, 1, "float64")
    pixels = prod(y.type.shape[2:])

    def terms(s: Spot) -> list[Expr]:
        r = s.at[0]
        label, counts = _label(b, spec, 1, y, _label_place(spec.inputs[1], r))
        x = Row(b.loops, r, pixels).read(Spot(s.v, {0: label}, 0), b.inputs[0], y)
        return [v.f(v.where(counts, term, v.splat(0.0))) for term in (x, v.splat(1.0))]

    count = y.type.shape[0] * pixels

    def one(_: Expr) -> None:
        sum_, labels = b.loops.line(count, 1, terms, [add, add])
        loss = v.f(v.splat(-1.0) * sum_)
        if spec.op.word_attr("reduction") == "mean":
            loss = v.div(loss, labels)
        for buffer, x in zip(b.outputs, (loss, labels), strict=True):
            b.code.store(buffer, i32(0), v.cast(x, "float32"))

    b.loops.rows(1, count, one)


def _label_place(labels: Layout, row: Expr) -> Expr:
    """Where the label of a row lies: dimension 1 of the labels is one of pixels."""
    shape, strides = labels.type.shape, memory_strides(labels)
    place: Expr = i32(0)
    inner = 1
    for d in reversed(range(len(shape))):
        at = tir.floormod(tir.floordiv(row, i32(inner)), i32(shape[d]))
        place = place + at * i32(strides[d])
        inner *= shape[d]
    return place


def nll_loss_grad(b: Buffers, spec: Single) -> None:
    """-(g / count) at each label that counts, else 0."""
    dy = spec.outputs[0]
    v = Vectors(b.code, 1)
    g, count = (v.f(load(b.inputs[i], i32(0))) for i in (0, 2))
    share = v.div(g, count) if spec.op.word_attr("reduction") == "mean" else g
    minus = v.f(v.splat(-1.0) * share)

    def one(row: Row) -> None:
        def zero(s: Spot) -> None:
            spot, strides = row.spot(s, dy)
            b.code.store(b.outputs[0], spot.index(strides), s.v.splat(0.0))

        row.each(dy, zero)
        label, counts = _label(b, spec, 1, dy, _label_place(spec.inputs[1], row.number))
        with b.code.when(counts):
            spot, strides = row.spot(Spot(Vectors(b.code, 1), {0: label}, 0), dy)
            b.code.store(b.outputs[0], spot.index(strides), minus)

    over_rows(b.loops, dy, one)


def mse_loss_grad(b: Buffers, spec: Single) -> None:
    """(2 / elements) * (x - y) * g in f32, with 2 for the sum."""
    x, y = spec.inputs[1:]
    (dx,) = spec.outputs
    g = Vectors(b.code, 1).f(load(b.inputs[0], i32(0)))
    is_mean = spec.op.word_attr("reduction") == "mean"
    factor = 2.0 / x.type.elements if is_mean else 2.0

    def body(s: Spot) -> None:
        v = s.v
        difference = v.sub(s.number(b.inputs[1], x), s.number(b.inputs[2], y))
        made = v.mul(v.mul(v.splat(factor), difference), v.splat(g))
        at = s.index(memory_strides(dx))
        v.code.store(b.outputs[0], at, rounded(v, made, dx.type.format))

    b.loops.over(dx.type.shape, memory_dims(dx), spec.lanes, body)


LOSS = {
    "log_softmax": log_softmax,
    "log_softmax_grad": log_softmax_grad,
    "nll_loss": nll_loss,
    "nll_loss_grad": nll_loss_grad,
    "mse_loss_grad": mse_loss_grad,
}
