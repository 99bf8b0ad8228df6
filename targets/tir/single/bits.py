"""Kernels of the ops that choose bits: comparisons of a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx as tir

from ...numbers.bit_cycle import LEAST_BITS, SIXTHS, crossings
from ...numbers.plateau import (
    EPOCHS,
    FILLED,
    NORM,
    NORM_EPOCHS,
    SEEN,
    STAGE,
    SUM,
    WINDOW,
    WINDOW_LENGTH,
)
from ..expr import Expr, Vectors, i32, load
from .grid import Single
from .loops import Buffers


def _counter(b: Buffers, spec: Single, i: int) -> Expr:
    """An integer operand as i64, which a name holds."""
    return b.code.let(tir.Cast("int64", load(b.inputs[i], i32(0))), "int64")


def _i64(value: int) -> Expr:
    return tir.const(value, "int64")


def cyclic_bits(b: Buffers, spec: Single) -> None:
    """For each lower end the crossings so far, in f64; the one of ``low`` is taken."""
    high, iters, cycles = (spec.op.int_attr(k) for k in ("high", "iters", "cycles"))
    v, wide = Vectors(b.code, 1), Vectors(b.code, 1, "float64")
    step, total = _counter(b, spec, 0), _counter(b, spec, 1)
    low = v.f(load(b.inputs[2], i32(0)))
    length = b.code.let(tir.floordiv(total, _i64(cycles)), "int64")
    # No division by 0 where there is no cycle.
    rest = tir.floormod(step, tir.max(length, _i64(1)))
    now = wide.mul(tir.Cast("float64", rest), wide.splat(SIXTHS))
    whole = wide.f(tir.Cast("float64", length))
    cycle = v.splat(float(high))
    for start in range(LEAST_BITS, high):
        bits = v.splat(float(start))
        for c in crossings(start, high):
            at = wide.mul(wide.splat(c.at), whole)
            reached = now >= at if c.inclusive else now > at
            bits = v.f(v.where(reached, v.splat(float(c.bits)), bits))
        cycle = v.f(v.where(low.equal(v.splat(float(start))), bits, cycle))
    runs = step < length * _i64(cycles)
    cycle = v.f(v.where(runs, cycle, v.splat(float(high))))
    level = tir.min(tir.floordiv(step, _i64(iters)) + _i64(LEAST_BITS), _i64(high))
    tested = v.f(tir.Cast("float32", level))
    b.code.store(b.outputs[0], i32(0), v.f(v.where(low > v.splat(0.0), cycle, tested)))


def range_test(b: Buffers, spec: Single) -> None:
    """See the reference."""
    high, iters, batch = (spec.op.int_attr(k) for k in ("high", "iters", "batch"))
    fallback, threshold = spec.op.int_attr("fallback"), spec.op.float_attr("threshold")
    v = Vectors(b.code, 1)
    step = _counter(b, spec, 0)
    right, low, hits, before = (v.f(load(b.inputs[i], i32(0))) for i in range(1, 5))
    bits = b.code.let(
        tir.min(tir.floordiv(step, _i64(iters)) + _i64(LEAST_BITS), _i64(high)), "int64"
    )
    total = v.add(hits, right)
    accuracy = v.div(total, v.splat(float(iters * batch)))
    gains = tir.all(bits > _i64(LEAST_BITS), v.sub(accuracy, before) > v.splat(threshold))
    last = v.f(v.where(bits.equal(_i64(high)), v.splat(float(fallback)), v.splat(0.0)))
    found = v.f(v.where(gains, v.f(tir.Cast("float32", bits)), last))
    ends = tir.floormod(step, _i64(iters)).equal(_i64(iters - 1))
    known = low > v.splat(0.0)
    made = ((low, found, low), (hits, v.splat(0.0), total), (before, accuracy, before))
    for out, (kept, at_end, between) in zip(b.outputs, made, strict=True):
        now = v.f(v.where(ends, at_end, between))
        b.code.store(out, i32(0), v.f(v.where(known, kept, now)))


def plateau(b: Buffers, spec: Single) -> None:
    """See the reference."""
    eps, every = spec.op.floats_attr("eps"), spec.op.int_attr("every")
    v = Vectors(b.code, 1)
    loss = v.f(load(b.inputs[0], i32(0)))
    old = [v.f(load(b.inputs[1], i32(i))) for i in range(spec.inputs[1].type.elements)]
    between = [*old]
    between[SUM], between[SEEN] = v.add(old[SUM], loss), v.add(old[SEEN], v.splat(1.0))
    last = v.div(between[SUM], v.splat(float(every)))
    new = _epoch(v, old, last, eps)
    ends = between[SEEN] >= v.splat(float(every))
    stopped = old[STAGE] >= v.splat(float(len(eps)))
    for i, before in enumerate(old):
        now = v.f(v.where(ends, new[i], between[i]))
        b.code.store(b.outputs[0], i32(i), v.f(v.where(stopped, before, now)))


def _epoch(v: Vectors, old: list[Expr], last: Expr, eps: Sequence[float]) -> list[Expr]:
    """The state behind the last step of an epoch of mean loss ``last``."""
    one, new = v.splat(1.0), [*old]
    new[SUM] = new[SEEN] = v.splat(0.0)
    early = old[EPOCHS] < v.splat(float(NORM_EPOCHS))
    count = v.add(old[EPOCHS], one)
    mean = v.div(v.add(v.mul(old[NORM], old[EPOCHS]), last), count)
    new[NORM] = v.f(v.where(early, mean, old[NORM]))
    new[EPOCHS] = v.f(v.where(early, count, old[EPOCHS]))
    new[WINDOW : WINDOW + WINDOW_LENGTH] = [*old[WINDOW + 1 : WINDOW + WINDOW_LENGTH], last]
    filled = v.f(tir.min(v.add(old[FILLED], one), v.splat(float(WINDOW_LENGTH))))
    limit = v.splat(eps[-1])
    for stage, e in enumerate(eps[:-1]):
        limit = v.f(v.where(old[STAGE].equal(v.splat(float(stage))), v.splat(e), limit))
    far = [
        v.div(v.magnitude(v.sub(w, last)), new[NORM]) > limit
        for w in new[WINDOW : WINDOW + WINDOW_LENGTH - 1]
    ]
    turns = tir.all(filled.equal(v.splat(float(WINDOW_LENGTH))), tir.Not(tir.any(*far)))
    new[STAGE] = v.f(v.where(turns, v.add(old[STAGE], one), old[STAGE]))
    new[FILLED] = v.f(v.where(turns, v.splat(0.0), filled))
    return new


def stage_bits(b: Buffers, spec: Single) -> None:
    """The last number, unless the stage is that of another one."""
    v, bits = Vectors(b.code, 1), spec.op.ints_attr("bits")
    stage = v.f(load(b.inputs[0], i32(STAGE)))
    made = v.splat(float(bits[-1]))
    for i, n in reversed([*enumerate(bits[:-1])]):
        made = v.f(v.where(stage < v.splat(float(i + 1)), v.splat(float(n)), made))
    b.code.store(b.outputs[0], i32(0), made)


BITS = {
    "cyclic_bits": cyclic_bits,
    "range_test": range_test,
    "plateau": plateau,
    "stage_bits": stage_bits,
}
