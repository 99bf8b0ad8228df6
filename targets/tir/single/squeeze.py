"""The two constants of shifted and squeezed numbers: logarithms in f32, their sum in f64."""

from __future__ import annotations

from tvm import tirx as tir

from ...numbers.powers import LEAST
from ..expr import Expr, Vectors, i32
from ..powers import log2
from .grid import Single, Spot
from .loops import Buffers, Join
from .total import add, read, wide

# log2 of the largest stored number, and what counts as a difference from the mean at all.
TARGET, LEAST_SPREAD = 15.0, 2.0**-20


def squeeze_stats(b: Buffers, spec: Single) -> None:
    """From the mean and the largest of log2 |x| over the numbers that are not 0."""
    (x,) = spec.inputs

    def terms(s: Spot) -> list[Expr]:
        narrow, v = s.v, wide(s.v)
        size = narrow.magnitude(read(s, b.inputs[0], x, [x]))
        none = size < narrow.splat(LEAST)
        logs = log2(narrow, narrow.f(narrow.where(none, narrow.splat(1.0), size)))
        counted = narrow.f(narrow.where(none, narrow.splat(0.0), narrow.splat(1.0)))
        return [v.f(v.cast(each, "float64")) for each in (logs, counted, size)]

    joins: list[Join] = [add, add, tir.max]
    logs, count, largest = b.loops.total([x], spec.lanes, terms, joins)
    v = Vectors(b.code, 1, "float64")
    zero, one = v.splat(0.0), v.splat(1.0)
    empty = count.equal(zero)
    single = Vectors(b.code, 1)
    middle = v.div(logs, v.f(v.where(empty, one, count)))
    most = single.f(v.cast(v.f(v.where(empty, one, largest)), "float32"))
    spread = v.sub(v.f(v.cast(log2(single, most), "float64")), middle)
    flat = spread < v.splat(LEAST_SPREAD)
    ratio = v.div(v.splat(TARGET), v.f(v.where(flat, one, spread)))
    alpha = b.code.fence(v.cast(ratio, "float32"), "float32", 1)
    beta = v.sub(zero, v.mul(v.f(v.cast(alpha, "float64")), middle))
    center = v.sub(zero, middle) if spec.op.word_attr("degenerate") == "center" else zero
    beta = v.f(v.where(tir.any(empty, flat), v.f(v.where(empty, zero, center)), beta))
    b.code.store(b.outputs[0], i32(0), single.f(single.where(flat, single.splat(1.0), alpha)))
    b.code.store(b.outputs[1], i32(0), single.f(v.cast(beta, "float32")))
