"""The two constants of shifted and squeezed numbers, in f64."""

from __future__ import annotations

from tvm import tirx as tir

from .tvm_expr import Expr, Vectors, i32
from .tvm_grid import Buffers, Single, Spot
from .tvm_math import LOG2E, log
from .tvm_total import Join, add, read, total, wide

# log2 of the largest stored number, and what counts as a difference from the mean at all.
TARGET, LEAST_SPREAD = 15.0, 2.0**-20


def squeeze_stats(b: Buffers, spec: Single) -> None:
    """From the mean and the largest of log2 |x| over the numbers that are not 0."""
    (x,) = spec.inputs

    def terms(s: Spot) -> list[Expr]:
        v = wide(s.v)
        size = v.f(v.cast(s.v.magnitude(read(s, b.inputs[0], x, [x])), "float64"))
        none = size.equal(v.splat(0.0))
        counted = v.f(v.where(none, v.splat(1.0), size))
        return [log(v, counted), v.f(v.where(none, v.splat(0.0), v.splat(1.0))), size]

    joins: list[Join] = [add, add, tir.max]
    logs, count, largest = total(b.code, [x], spec.lanes, terms, joins)
    v = Vectors(b.code, 1, "float64")
    zero, one = v.splat(0.0), v.splat(1.0)
    empty = count.equal(zero)
    middle = v.mul(v.div(logs, v.f(v.where(empty, one, count))), v.splat(LOG2E))
    top = v.mul(log(v, v.f(v.where(empty, one, largest))), v.splat(LOG2E))
    spread = v.sub(top, middle)
    flat = spread < v.splat(LEAST_SPREAD)
    ratio = v.div(v.splat(TARGET), v.f(v.where(flat, one, spread)))
    alpha = b.code.fence(v.cast(ratio, "float32"), "float32", 1)
    beta = v.sub(zero, v.mul(v.f(v.cast(alpha, "float64")), middle))
    center = v.sub(zero, middle) if spec.op.word_attr("degenerate") == "center" else zero
    beta = v.f(v.where(tir.any(empty, flat), v.f(v.where(empty, zero, center)), beta))
    single = Vectors(b.code, 1)
    b.code.store(b.outputs[0], i32(0), single.f(single.where(flat, single.splat(1.0), alpha)))
    b.code.store(b.outputs[1], i32(0), single.f(v.cast(beta, "float32")))
