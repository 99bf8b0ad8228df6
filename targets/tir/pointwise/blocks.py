"""The power of two that scales a block, by arithmetic on the bits of its largest magnitude."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from tvm import tirx as tir

from ....compiler.formats import FP8_143, Format
from ....compiler.spelled import format_of
from ...numbers.blocks import mantissa_bits, top_exponent
from ..expr import Expr, Vectors
from ..formats import HALVES, INFINITY, MAGNITUDE, QUIET, decode, encode
from .point import Evaluate, Frame, Point
from .space import Node

MANTISSA = 0x7FFFFF
GREATEST = float(np.finfo(np.float32).max)


def block_scale(p: Point, n: Node) -> None:
    """2^e from the code e + 127, kept in 0 .. 254."""
    v, to = p.v, format_of(n.attr("to"))
    m = v.hold(v.bits(p.number(n.inputs[0])) & v.u(MAGNITUDE))
    code = tir.max(_code(v, m, to, str(n.attr("rule"))), v.i(0))
    code = v.hold(tir.min(v.unsigned(code), v.u(254)))
    made = v.where(code == v.u(0), v.u(HALVES), code << v.u(23))
    p.put(n.results[0], v.f(v.to_f(v.where(m >= v.u(INFINITY), v.u(INFINITY | QUIET), made))))


def _code(v: Vectors, m: Expr, to: Format, rule: str) -> Expr:
    """e + 127 as an i32, of a magnitude's bits; rounding up takes one more."""
    if rule == "rceil":
        m = v.hold(v.bits(v.mul(v.f(v.to_f(m)), v.splat(_inverse(to)))))
        exponent, rest = m >> v.u(23), m & v.u(MANTISSA)
        more = v.where(exponent == v.u(0), v.u(HALVES), v.u(0)) < rest
        return v.signed(exponent + v.where(more, v.u(1), v.u(0)))
    if rule == "even":
        half = v.u(1 << (22 - mantissa_bits(to)))
        m = v.hold(m + v.where(m >= v.u(1 << 23), half, v.u(0)))
    exponent = m >> v.u(23)
    if rule == "ceil":
        exponent = exponent + v.where((m & v.u(MANTISSA)) != v.u(0), v.u(1), v.u(0))
    return v.signed(exponent) - v.i(top_exponent(to))


def _inverse(to: Format) -> float:
    """1 / top in f32."""
    return float(np.float32(1) / np.float32(to.max))


def fit_scale(p: Point, n: Node) -> None:
    """m / max, or 1."""
    v, m = p.v, p.number(n.inputs[0])
    s = v.div(m, v.splat(format_of(n.attr("to")).max))
    s = v.f(v.where(tir.EQ(s, v.splat(0.0)), v.splat(1.0), s))
    finite = v.magnitude(m) <= v.splat(GREATEST)
    p.put(n.results[0], v.f(v.where(finite, s, v.splat(math.nan))))


def outer_encoding(p: Point, n: Node) -> None:
    """top / m, or 1."""
    v, m = p.v, p.number(n.inputs[0])
    to = format_of(n.attr("to"))
    e = _at_most(v, v.div(v.splat(float(np.float32(n.number("top") * to.max))), m), GREATEST)
    some = (m > v.splat(0.0)) & (m <= v.splat(GREATEST)) & (e > v.splat(0.0))
    p.put(n.results[0], v.f(v.where(some, e, v.splat(1.0))))


def inner_scale(p: Point, n: Node) -> None:
    """A number of fp8.143."""
    v, b = p.v, p.number(n.inputs[0])
    to, e = format_of(n.attr("to")), p.constant(n, "e")
    part = v.mul(e, v.splat(float(np.float32(n.number("headroom") / to.max))))
    wanted = _at_most(v, v.mul(b, part), FP8_143.max)
    s = decode(v, encode(v, wanted, FP8_143), FP8_143)
    finite = v.magnitude(b) <= v.splat(GREATEST)
    p.put(n.results[0], v.f(v.where(finite, v.f(s), v.splat(math.nan))))


def inner_factor(p: Point, n: Node) -> None:
    """1/(s (1/e)), not infinite."""
    v, s = p.v, p.number(n.inputs[0])
    outer = v.div(v.splat(1.0), p.constant(n, "e"))
    p.put(n.results[0], _at_most(v, v.div(v.splat(1.0), v.mul(s, outer)), GREATEST))


def _at_most(v: Vectors, x: Expr, most: float) -> Expr:
    return v.f(v.where(x > v.splat(most), v.splat(most), x))


def encoding_scalars(frame: Frame, node: Node) -> Mapping[str, Expr]:
    """What the whole tensor is multiplied by."""
    return {"e": Vectors(frame.code, 1).f(frame.scalar(node.inputs[1]))}


BLOCKS: dict[str, Evaluate] = {
    "block_scale": block_scale,
    "fit_scale": fit_scale,
    "outer_encoding": outer_encoding,
    "inner_scale": inner_scale,
    "inner_factor": inner_factor,
}
