"""Shifted and squeezed numbers, and back to real ones, at a point of a pointwise kernel.

Both are taken in f64, in the order of arithmetic of ``tensor.py``, and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .tvm_expr import Expr, Vectors, i32, load
from .tvm_formats import encode
from .tvm_math import exp_any, log_any
from .tvm_pointwise_point import Frame, Point
from .tvm_pointwise_space import Node

LN2 = math.log(2.0)


def squeeze_scalars(frame: Frame, node: Node) -> Mapping[str, Expr]:
    """alpha and beta."""
    v = Vectors(frame.code, 1)
    return {name: v.f(frame.scalar(i)) for name, i in zip(PARTS, node.inputs[1:], strict=True)}


PARTS = ("alpha", "beta")


def squeeze(p: Point, n: Node) -> None:
    """2^beta |x|^alpha with the sign of x, to f32 and then to nearest even."""
    (q,), v = n.results, p.v
    w = Vectors(v.code, v.lanes, "float64")
    alpha, beta = (w.f(v.cast(p.constant(n, name), "float64")) for name in PARTS)
    x = p.number(n.inputs[0])
    logs = log_any(w, w.f(v.cast(v.magnitude(x), "float64")))
    size = exp_any(w, w.add(w.mul(beta, w.splat(LN2)), w.mul(alpha, logs)))
    p.put_code(q, encode(v, _signed(v, v.f(v.cast(size, "float32")), x), p.type(q).format))


def unsqueeze(p: Point, q: int) -> Expr:
    """(2^-beta |q|)^(1/alpha) with the sign of q, in f32."""
    v, w = p.v, Vectors(p.v.code, p.v.lanes, "float64")
    alpha, beta = (w.f(v.cast(v.splat(part), "float64")) for part in _parts(p, q))
    x = p.number(q)
    logs = log_any(w, w.f(v.cast(v.magnitude(x), "float64")))
    size = exp_any(w, w.div(w.sub(logs, w.mul(beta, w.splat(LN2))), alpha))
    return _signed(v, v.f(v.cast(size, "float32")), x)


def store_parts(frame: Frame, value: int) -> None:
    """Write alpha and beta of a result."""
    for k, i in enumerate(frame.spec.makers[value].inputs[1:]):
        frame.code.store(frame.scales[value], i32(k), frame.scalar(i))


def _parts(p: Point, q: int) -> tuple[Expr, Expr]:
    if q in p.frame.spec.inputs:
        buffer = p.frame.scales[q]
        return load(buffer, i32(0)), load(buffer, i32(1))
    maker = p.frame.spec.makers[q]
    assert maker.kind == "squeeze", maker.kind
    alpha, beta = (p.frame.scalars[maker, name] for name in PARTS)
    return alpha, beta


def _signed(v: Vectors, size: Expr, like: Expr) -> Expr:
    return v.f(v.to_f(v.bits(size) | (v.bits(like) & v.u(0x80000000))))
