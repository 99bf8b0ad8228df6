"""Quantizers with an offset, and back to real numbers, at a point of a pointwise kernel."""

from __future__ import annotations

from collections.abc import Mapping

from ....compiler.types import Scale
from ..expr import Expr, Vectors, i32, load
from ..formats import integer_bits
from .point import Frame, Point, highest
from .random import threefry_keys, uniform
from .space import Node
from .squeeze import unsqueeze

LEAST_STEP = 1e-8


def _bits(frame: Frame, node: Node) -> int:
    """The bits of the codes."""
    return frame.spec.types[node.results[0]].format.bits


def _step(v: Vectors, low: Expr, high: Expr, n: Expr) -> Expr:
    step, least = v.div(v.sub(high, low), n), v.splat(LEAST_STEP)
    return v.f(v.where(step > least, step, least))


def affine_scalars(frame: Frame, node: Node) -> Mapping[str, Expr]:
    """n, and for one range of the tensor its least number and the step."""
    v = Vectors(frame.code, 1)
    made = dict(threefry_keys(frame, node)) if len(node.inputs) > 4 else {}
    single = [not frame.spec.types[i].shape for i in node.inputs[1:4]]
    if single[2]:
        made["n"] = highest(v, frame.scalar(node.inputs[3]), _bits(frame, node))
    if all(single):
        low, high = (v.f(frame.scalar(i)) for i in node.inputs[1:3])
        made |= {"low": low, "step": _step(v, low, high, made["n"])}
    return made


def _grid(p: Point, n: Node) -> tuple[Expr, Expr, Expr]:
    """Step, least number and n; those of its place where each place of dimension 0 has its own."""
    if (n, "step") in p.frame.scalars:
        return p.constant(n, "step"), p.constant(n, "low"), p.constant(n, "n")
    (q,) = n.results
    if (q, "step") not in p.limits:
        low, high = (p.v.f(p.along(p.frame.data[i], 0)) for i in n.inputs[1:3])
        if (n, "n") in p.frame.scalars:
            top = p.constant(n, "n")
        else:
            top = highest(p.v, p.v.f(p.along(p.frame.data[n.inputs[3]], 0)), _bits(p.frame, n))
        step = _step(p.v, low, high, top)
        p.limits.update({(q, "step"): step, (q, "low"): low, (q, "n"): top})
    return p.limits[q, "step"], p.limits[q, "low"], p.limits[q, "n"]


def quantize_affine(p: Point, n: Node) -> None:
    """rint(min(max((x - low) / step, 0), n)), with noise ahead of that where there is a seed."""
    (q,), v = n.results, p.v
    step, low, top = _grid(p, n)
    z = v.div(v.sub(p.number(n.inputs[0]), low), step)
    if len(n.inputs) > 4:
        z = v.add(z, v.sub(uniform(p, n), v.splat(0.5)))
    z = v.f(v.where(z > v.splat(0.0), z, v.splat(0.0)))
    p.put_code(q, integer_bits(v, v.f(v.where(z < top, z, top)), p.type(q).format.bits))


def store_grid(frame: Frame, value: int) -> None:
    """Write scales and offsets of a result: what ``quantize_affine`` divided by and subtracted."""
    node, places = frame.spec.makers[value], frame.spec.layout(value).scales // 2
    v, buffer = Vectors(frame.code, 1), frame.scales[value]
    with frame.code.loop(places) as k:
        low, high, bits = (
            v.f(load(frame.data[i], k if frame.spec.types[i].shape else i32(0)))
            for i in node.inputs[1:4]
        )
        frame.code.store(buffer, k, _step(v, low, high, highest(v, bits, _bits(frame, node))))
        frame.code.store(buffer, k + i32(places), low)


def dequantize(p: Point, n: Node) -> None:
    """Number times scale, plus the offset where there is one; squeezed numbers by powers."""
    (q,), v = n.inputs, p.v
    if p.type(q).scale is Scale.SQUEEZED:
        p.put(n.results[0], unsqueeze(p, q))
    elif p.type(q).scale.is_affine:
        factor, offset = _affine_parts(p, q)
        p.put(n.results[0], v.add(v.mul(p.number(q), factor), offset))
    elif p.type(q).scale is Scale.NONE:
        p.put(n.results[0], p.number(q))
    else:
        p.put(n.results[0], v.mul(p.number(q), _factor(p, q)))


def _affine_parts(p: Point, q: int) -> tuple[Expr, Expr]:
    if q not in p.frame.spec.inputs:
        maker = p.frame.spec.makers[q]
        assert maker.definition.affine, maker.kind
        step, low, _ = _grid(p, maker)
        return step, low
    buffer, places = p.frame.scales[q], p.frame.spec.layout(q).scales // 2
    if p.type(q).scale.per_channel:
        return p.v.f(p.along(buffer, 0)), p.v.f(p.along(buffer, 0, places))
    return p.v.splat(load(buffer, i32(0))), p.v.splat(load(buffer, i32(1)))


def _factor(p: Point, q: int) -> Expr:
    spec = p.frame.spec
    if spec.layout(q).scales == 1:
        return p.v.splat(p.frame.scale(q, i32(0)))
    if q in spec.inputs:
        return p.along(p.frame.scales[q], 0)
    # A clip for each place, made to codes in this kernel.
    maker = spec.makers[q]
    return p.v.div(p.along(p.frame.data[maker.inputs[1]], 0), p.v.splat(p.frame.top(maker)))
