"""Kernels that make one number: clips of weights, gradient scales, constants."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx as tir

from .tvm_expr import Expr, Vectors, i32
from .tvm_formats import f32_bits
from .tvm_single_frame import Builder, Frame
from .tvm_single_sums import Total

LEAST_SCALE, GREATEST_SCALE = 2.0**-100, 2.0**100


def sawb_clip(frame: Frame) -> None:
    """c1 sqrt(mean w^2) - c2 mean |w| from sums in f64, of the tensor or of each of its rows."""
    w = frame.inputs[0].type
    clips = frame.outputs[0].type.elements
    size = w.elements // clips
    with frame.code.loop(clips) as k:
        _clip(frame, size, k * i32(size), k)


def _clip(frame: Frame, size: int, start: Expr, to: Expr) -> None:
    code = frame.code

    def terms(v: Vectors, first: Expr) -> list[Expr]:
        x = frame.read(v, 0, start + first)
        wide = v.cast(x, "float64")
        return [wide * wide, v.magnitude(x)]

    def largest(v: Vectors, first: Expr) -> list[Expr]:
        return [v.magnitude(frame.read(v, 0, start + first))]

    def use(sums: Sequence[Expr]) -> None:
        mean_square, mean = (s / tir.const(float(size), "float64") for s in sums)
        root = tir.call_llvm_pure_intrin("float64", "llvm.sqrt", mean_square)
        c1, c2 = (tir.const(frame.number(c), "float64") for c in ("c1", "c2"))
        clip = code.let(c1 * root - c2 * mean, "float64")
        code.store(frame.results[0], to, tir.Cast("float32", clip))
        with code.when(clip <= tir.const(0.0, "float64")):
            Total(frame, size, 1, largest=True).run(largest, fall_back)

    def fall_back(maxima: Sequence[Expr]) -> None:
        code.store(frame.results[0], to, tir.Cast("float32", maxima[0]))

    Total(frame, size, 2).run(terms, use)


def grad_scale_init(frame: Frame) -> None:
    """The scale, or the instant rule where it is 0 or always: only then g is read."""
    code, one = frame.code, Vectors(frame.code, 1)
    s = frame.scalar(0)
    none = s == one.splat(0.0)
    kept = one.f(one.where(none, one.splat(1.0), s))
    code.store(frame.results[0], i32(0), kept)

    def magnitudes(v: Vectors, first: Expr) -> list[Expr]:
        return [v.magnitude(frame.read(v, 1, first))]

    def use(maxima: Sequence[Expr]) -> None:
        largest = one.f(tir.Cast("float32", maxima[0]))
        finite = tir.all(
            largest > one.splat(0.0), one.bits(largest) < one.u(f32_bits(float("inf")))
        )
        with code.when(finite):
            code.store(frame.results[0], i32(0), _power_below(one, frame.number("top"), maxima[0]))

    with code.when(tir.const(True, "bool") if frame.flag("always") else none):
        size = frame.inputs[1].rows * frame.inputs[1].cell
        Total(frame, size, 1, largest=True).run(magnitudes, use)


def _power_below(one: Vectors, top: float, largest: Expr) -> Expr:
    """2^floor(log2(top / largest)), kept within the scales: the exponent field of the quotient."""
    quotient = tir.div(tir.const(top, "float64"), largest)
    low, high = (tir.const(s, "float64") for s in (LEAST_SCALE, GREATEST_SCALE))
    bounded = tir.max(tir.min(quotient, high), low)
    bits = tir.reinterpret("uint64", bounded) & tir.const(0x7FF0000000000000, "uint64")
    return one.f(tir.Cast("float32", tir.reinterpret("float64", bits)))


def grad_scale_step(frame: Frame) -> None:
    """Halved above the top, doubled at half of it or below, where there was any gradient."""
    one = Vectors(frame.code, 1)
    s, m = frame.scalar(0), frame.scalar(1)
    top = frame.number("top")
    halved, doubled = one.mul(s, one.splat(0.5)), one.mul(s, one.splat(2.0))
    small = tir.all(m > one.splat(0.0), m <= one.splat(top / 2))
    moved = one.where(m > one.splat(top), halved, one.where(small, doubled, s))
    low, high = one.splat(LEAST_SCALE), one.splat(GREATEST_SCALE)
    frame.write(one, 0, i32(0), one.f(tir.max(tir.min(one.f(moved), high), low)))


def constant(frame: Frame) -> None:
    """The same number everywhere."""

    def body(v: Vectors, first: Expr) -> None:
        frame.write(v, 0, first, v.f(v.splat(frame.number("value"))))

    frame.flat(frame.outputs[0].type.elements, body)


SCALAR: dict[str, Builder] = {
    "sawb_clip": sawb_clip,
    "grad_scale_init": grad_scale_init,
    "grad_scale_step": grad_scale_step,
    "constant": constant,
}
