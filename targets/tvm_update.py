"""Kernels of the update: the optimizer, running statistics, counters."""

from __future__ import annotations

from tvm import tirx as tir

from .tvm_expr import Expr, Vectors, i32, load
from .tvm_formats import SIGN
from .tvm_single_frame import Builder, Frame


def sgd(frame: Frame) -> None:
    """SGD as torch orders it; the first step takes the gradient undamped."""
    one = Vectors(frame.code, 1)
    lr, momentum, dampening, decay = (frame.scalar(i) for i in range(4, 8))
    kept = one.sub(one.splat(1.0), dampening)
    begun = load(frame.sources[3], i32(0)) != tir.const(0, "int64")
    carries = tir.all(begun, momentum != one.splat(0.0))
    carried = one.f(one.where(carries, one.splat(1.0), one.splat(0.0)))

    def body(v: Vectors, first: Expr) -> None:
        w, dw, m = (frame.read(v, i, first) for i in range(3))
        if frame.flag("maximize"):
            dw = v.f(v.to_f(v.bits(dw) ^ v.u(SIGN)))
        d = v.add(dw, v.mul(v.splat(decay), w))
        mixed = v.add(v.mul(v.splat(momentum), m), v.mul(v.splat(kept), d))
        buffer = v.f(v.where(v.splat(carried) > v.splat(0.0), mixed, d))
        step = v.add(d, v.mul(v.splat(momentum), buffer)) if frame.flag("nesterov") else buffer
        frame.write(v, 0, first, v.sub(w, v.mul(v.splat(lr), step)))
        frame.write(v, 1, first, buffer)

    frame.flat(frame.inputs[0].type.elements, body)


def running_stats(frame: Frame) -> None:
    """(1 - momentum) * old + momentum * (new * correction)"""
    momentum = frame.number("momentum")

    def body(v: Vectors, first: Expr) -> None:
        old, new = (frame.read(v, i, first) for i in range(2))
        share = v.mul(v.splat(momentum), v.mul(new, v.splat(frame.number("correction"))))
        frame.write(v, 0, first, v.add(v.mul(v.splat(1.0 - momentum), old), share))

    frame.flat(frame.inputs[0].type.elements, body)


def running_average(frame: Frame) -> None:
    """The same with momentum 1 / count."""
    one = Vectors(frame.code, 1)
    count = one.f(tir.Cast("float32", load(frame.sources[2], i32(0))))
    momentum = one.div(one.splat(1.0), count)
    rest = one.sub(one.splat(1.0), momentum)

    def body(v: Vectors, first: Expr) -> None:
        old, new = (frame.read(v, i, first) for i in range(2))
        share = v.mul(v.splat(momentum), v.mul(new, v.splat(frame.number("correction"))))
        frame.write(v, 0, first, v.add(v.mul(v.splat(rest), old), share))

    frame.flat(frame.inputs[0].type.elements, body)


def increment(frame: Frame) -> None:
    """n + 1"""
    n = load(frame.sources[0], i32(0))
    frame.code.store(frame.results[0], i32(0), n + tir.const(1, frame.inputs[0].dtype))


UPDATE: dict[str, Builder] = {
    "sgd": sgd,
    "running_stats": running_stats,
    "running_average": running_average,
    "increment": increment,
}
