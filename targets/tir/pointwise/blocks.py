"""The power of two that scales a block, by arithmetic on the bits of its largest magnitude."""

from __future__ import annotations

import numpy as np
from tvm import tirx as tir

from ....compiler.formats import FORMATS, Format
from ...numbers.blocks import mantissa_bits, top_exponent
from ..expr import Expr, Vectors
from ..formats import HALVES, INFINITY, MAGNITUDE, QUIET
from .point import Evaluate, Point
from .space import Node

MANTISSA = 0x7FFFFF


def block_scale(p: Point, n: Node) -> None:
    """2^e from the code e + 127, kept in 0 .. 254."""
    v, to = p.v, FORMATS[str(n.attr("to"))]
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


BLOCKS: dict[str, Evaluate] = {"block_scale": block_scale}
