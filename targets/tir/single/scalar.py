"""Kernels of a few numbers: running statistics, counters, gradient scales of the next step."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx as tir

from ..expr import Code, Expr, Vectors, i32, load
from ..formats import INFINITY, MAGNITUDE, from_memory
from .grid import Single, Spot
from .loops import Buffers

LEAST_SCALE, GREATEST_SCALE = 2.0**-100, 2.0**100

LEAST_LOSS_SCALE = 2.0**-126


def _running(b: Buffers, spec: Single, momentum: Expr, rest: Expr) -> None:
    """rest * old + momentum * (new * correction)"""
    old, new = spec.inputs[:2]
    correction = spec.op.float_attr("correction")

    def body(s: Spot) -> None:
        v = s.v
        fixed = v.mul(s.number(b.inputs[1], new, {0: 1}), v.splat(correction))
        news = v.mul(v.splat(momentum), fixed)
        olds = v.mul(v.splat(rest), s.number(b.inputs[0], old, {0: 1}))
        s.put(b.outputs[0], spec.outputs[0], v.add(olds, news), {0: 1})

    b.loops.over((old.type.elements,), (0,), spec.lanes, body)


def running_stats(b: Buffers, spec: Single) -> None:
    """With a constant momentum."""
    momentum, v = spec.op.float_attr("momentum"), Vectors(b.code, 1)
    _running(b, spec, v.splat(momentum), v.splat(1 - momentum))


def running_average(b: Buffers, spec: Single) -> None:
    """With momentum 1 / count."""
    v = Vectors(b.code, 1)
    count = v.f(v.cast(load(b.inputs[2], i32(0)), "float32"))
    momentum = v.div(v.splat(1.0), count)
    _running(b, spec, momentum, v.sub(v.splat(1.0), momentum))


def increment(b: Buffers, spec: Single) -> None:
    """n + 1"""
    n = load(b.inputs[0], i32(0))
    b.code.store(b.outputs[0], i32(0), n + tir.const(1, spec.inputs[0].dtype))


def _worst(b: Buffers, spec: Single, operand: int) -> Expr:
    """The largest bit pattern of a magnitude, from ``operand`` on."""
    values = zip(b.inputs[operand:], spec.inputs[operand:], strict=True)
    return b.loops.largest(list(values), spec.lanes)


def tally(b: Buffers, spec: Single) -> None:
    """n + 1 where the largest bit pattern of a magnitude is none of a finite number."""
    code, worst = b.code, _worst(b, spec, 1)
    n, dtype = load(b.inputs[0], i32(0)), spec.inputs[0].dtype
    bad = worst >= tir.const(INFINITY, "uint32")
    code.store(b.outputs[0], i32(0), n + tir.Cast(dtype, bad))


def count_where(b: Buffers, spec: Single) -> None:
    """n + 1 where x is not 0."""
    v, n = Vectors(b.code, 1), load(b.inputs[0], i32(0))
    # Of the bits, so that NaN counts.
    size = v.bits(load(b.inputs[1], i32(0))) & v.u(MAGNITUDE)
    b.code.store(b.outputs[0], i32(0), n + tir.Cast(spec.inputs[0].dtype, size > v.u(0)))


def ratio(b: Buffers, spec: Single) -> None:
    """n / by, rounded down; n is never below 0."""
    n, by = load(b.inputs[0], i32(0)), spec.op.int_attr("by")
    b.code.store(b.outputs[0], i32(0), tir.floordiv(n, tir.const(by, spec.inputs[0].dtype)))


def turn(b: Buffers, spec: Single) -> None:
    """1 where n mod of is at."""
    of, at = (tir.const(spec.op.int_attr(k), spec.inputs[0].dtype) for k in ("of", "at"))
    n = load(b.inputs[0], i32(0))
    left = tir.floormod(n, of) if spec.op.int_attr("of") else n
    v = Vectors(b.code, 1)
    b.code.store(b.outputs[0], i32(0), v.f(v.where(left.equal(at), v.splat(1.0), v.splat(0.0))))


def grad_scale_step(b: Buffers, spec: Single) -> None:
    """s/2 where m > top, 2s where 0 < m <= top/2, else s, within limits; a NaN m leaves s."""

    def body(k: Expr) -> None:
        v, top = Vectors(b.code, 1), spec.op.float_attr("top")
        s, m = (_number(b, spec, i, k) for i in range(2))
        limit = v.div(v.f(v.splat(top)), v.splat(2.0))
        small = tir.all(m > v.splat(0.0), m <= limit)
        grown = v.f(v.where(small, v.mul(s, v.splat(2.0)), s))
        made = v.f(v.where(m > v.splat(top), v.mul(s, v.splat(0.5)), grown))
        made = v.f(v.where(made < v.splat(LEAST_SCALE), v.splat(LEAST_SCALE), made))
        most = v.splat(GREATEST_SCALE)
        b.code.store(b.outputs[0], k, v.f(v.where(made > most, most, made)))

    _each(b, spec, body)


def channel_scales(b: Buffers, spec: Single) -> None:
    """s, or a first one by the instant rule; and its inverse."""

    def body(k: Expr) -> None:
        v = Vectors(b.code, 1)
        s, m = (_number(b, spec, i, k) for i in range(2))
        none = s.equal(v.splat(0.0))
        made = instant_scale(b.code, spec.op.float_attr("top"), v.hold(v.bits(m)), s)
        now = made if spec.op.bool_attr("always") else v.f(v.where(none, made, s))
        b.code.store(b.outputs[0], k, now)
        b.code.store(b.outputs[1], k, v.f(v.div(v.splat(1.0), now)))

    _each(b, spec, body)


def instant_scale(code: Code, top: float, bits: Expr, s: Expr) -> Expr:
    """2^floor(log2(top / largest)) of the bits of an f32; ``s`` (or 1) where it is 0 or none.

    The exponent is that of the quotient in f64.
    """
    v, one = Vectors(code, 1, "float64"), Vectors(code, 1)
    largest = v.f(v.cast(one.to_f(bits), "float64"))
    quotient = v.div(v.splat(top), largest)
    field = tir.shift_right(tir.reinterpret("uint64", quotient), tir.const(52, "uint64"))
    exponent = tir.Cast("int32", field) - i32(1023)
    low, high = (int(f).bit_length() - 1 for f in (1 / LEAST_SCALE, GREATEST_SCALE))
    exponent = tir.max(tir.min(exponent, i32(high)), i32(-low))
    made = tir.reinterpret("float32", tir.shift_left(exponent + i32(127), i32(23)))
    kept = one.f(one.where(s.equal(one.splat(0.0)), one.splat(1.0), s))
    usable = tir.all(bits > tir.const(0, "uint32"), bits < tir.const(INFINITY, "uint32"))
    return one.f(one.where(usable, one.f(made), kept))


def _number(b: Buffers, spec: Single, i: int, k: Expr) -> Expr:
    v, layout = Vectors(b.code, 1), spec.inputs[i]
    return v.f(from_memory(v, load(b.inputs[i], k), layout.type.format))


def _each(b: Buffers, spec: Single, body: Callable[[Expr], None]) -> None:
    """Over the numbers of a scalar or vector."""
    b.loops.over((spec.inputs[0].type.elements,), (0,), 1, lambda s: body(s.at[0]))


def loss_scale_step(b: Buffers, spec: Single) -> None:
    """s * backoff and 0 where anything is not finite; every ``interval`` good steps s * growth.

    Nothing changes where the loss is not finite.
    """
    finite = _worst(b, spec, 3) < tir.const(INFINITY, "uint32")
    v, kind = Vectors(b.code, 1), spec.inputs[1].dtype
    told = (v.bits(load(b.inputs[2], i32(0))) & v.u(MAGNITUDE)) < v.u(INFINITY)
    s, before = v.f(load(b.inputs[0], i32(0))), load(b.inputs[1], i32(0))
    good = before + tir.const(1, kind)
    growth, backoff = (v.splat(spec.op.float_attr(k)) for k in ("growth", "backoff"))
    full = good.equal(tir.const(spec.op.int_attr("interval"), kind))
    grown, shrunk = v.f(v.mul(s, growth)), v.f(v.mul(s, backoff))
    kept = v.f(v.where(tir.all(full, v.bits(grown) < v.u(INFINITY)), grown, s))
    least = v.f(tir.max(shrunk, v.splat(LEAST_LOSS_SCALE)))
    made = v.f(v.where(finite, kept, least))
    b.code.store(b.outputs[0], i32(0), v.f(v.where(told, made, s)))
    counted = tir.Select(tir.all(finite, tir.Not(full)), good, tir.const(0, kind))
    b.code.store(b.outputs[1], i32(0), tir.Select(told, counted, before))


SCALAR = {
    "running_stats": running_stats,
    "running_average": running_average,
    "increment": increment,
    "tally": tally,
    "count_where": count_where,
    "ratio": ratio,
    "turn": turn,
    "grad_scale_step": grad_scale_step,
    "channel_scales": channel_scales,
    "loss_scale_step": loss_scale_step,
}
