"""Pointwise ops as vector expressions, in exactly the order of arithmetic that ``ops.py`` writes.

``SCALARS`` and ``CHANNELS`` are what an op computes once a call; ``RULES`` what it does at a point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import tirx as tir

from ..expr import Expr, Vectors, i32, load, ramp
from ..formats import (
    encode,
    f32_above,
    from_memory,
    integer_bits,
    log_level,
    nan_to_infinity,
    sign_code,
)
from .affine import affine_scalars, dequantize, quantize_affine
from .blocks import BLOCKS, encoding_scalars
from .lists import nearest
from .math import MATH
from .point import Evaluate, Frame, Point, top_number
from .random import (
    initialize,
    random_mask,
    random_uniform,
    round_float,
    round_stochastic,
    threefry_keys,
)
from .space import Node, memory_strides
from .squeeze import squeeze, squeeze_scalars

NamedNumbers = Mapping[str, Expr]
Parameter = Callable[[int], Expr]


def clip_scalars(frame: Frame, node: Node) -> NamedNumbers:
    """Limits of a quantizer with one clip, and what its numbers are multiplied by."""
    v, clip = Vectors(frame.code, 1), _clip(node)
    top = {} if node.kind == "clip_region" else {"top": _top(frame, node)}
    if frame.spec.types[clip].shape:
        return top  # one clip a channel: read at each point
    limit = v.f(load(frame.data[clip], i32(0)))
    return {**top, "limit": limit, **_limits(v, limit, top.get("top"))}


def _clip(node: Node) -> int:
    return node.inputs[2 if node.kind == "pact_plus_grad" else 1]


def _limits(v: Vectors, limit: Expr, top: Expr | None) -> dict[str, Expr]:
    made = {"low": v.f(v.splat(0.0) - limit)}
    if top is not None:
        made["ratio"] = v.div(top, limit)
    return made


def _top(frame: Frame, node: Node) -> Expr:
    if node.kind == "pact_plus_grad":
        return Vectors(frame.code, 1).splat(node.number("top"))
    return frame.top(node)


def scale_scalars(frame: Frame, node: Node) -> NamedNumbers:
    """The gradient scale, or unit."""
    v = Vectors(frame.code, 1)
    return {"s": v.f(frame.scalar(node.inputs[1]))}


def first_scalars(frame: Frame, node: Node) -> NamedNumbers:
    """The state, which is 0 in the first step."""
    return {"state": Vectors(frame.code, 1).f(frame.scalar(node.inputs[1]))}


SCALARS: dict[str, Callable[[Frame, Node], NamedNumbers]] = {
    **dict.fromkeys(("quantize", "quantize_bits"), clip_scalars),
    "clip_region": clip_scalars,
    "pact_plus_grad": clip_scalars,
    **dict.fromkeys(("quantize_affine", "quantize_affine_stochastic"), affine_scalars),
    "squeeze": squeeze_scalars,
    **dict.fromkeys(("grad_scale", "normalize"), scale_scalars),
    "amax_first": first_scalars,
    **dict.fromkeys(("inner_scale", "inner_factor"), encoding_scalars),
    **dict.fromkeys(("round_stochastic", "round_float"), threefry_keys),
    "random_mask": threefry_keys,
    "random_uniform": threefry_keys,
    "initialize": threefry_keys,
}


def _deviation(v: Vectors, node: Node, var: Expr) -> Expr:
    return v.sqrt(v.add(var, v.splat(node.number("eps"))))


def norm_constants(v: Vectors, node: Node, p: Parameter, count: int) -> NamedNumbers:
    """a = gamma / sqrt(var + eps), b = beta - mean * a"""
    a = v.div(p(3), _deviation(v, node, p(2)))
    return {"a": a, "b": v.sub(p(4), v.mul(p(1), a))}


def norm_grad_constants(v: Vectors, node: Node, p: Parameter, count: int) -> NamedNumbers:
    """a = gamma * r, b = -a * dgamma * r / P, c = -a * dbeta / P - mean * b"""
    mean, var, gamma, dgamma, dbeta = (p(i) for i in range(2, 7))
    r = v.div(v.splat(1.0), _deviation(v, node, var))
    a, elements = v.mul(gamma, r), v.splat(float(count))
    minus = v.f(v.splat(-1.0) * a)
    b = v.div(v.mul(v.mul(minus, dgamma), r), elements)
    c = v.sub(v.div(v.mul(minus, dbeta), elements), v.mul(mean, b))
    return {"a": a, "b": b, "c": c}


def norm_eval_constants(v: Vectors, node: Node, p: Parameter, count: int) -> NamedNumbers:
    """gamma / sqrt(var + eps)"""
    return {"a": v.div(p(2), _deviation(v, node, p(1)))}


CHANNELS: dict[str, tuple[str, Callable[[Vectors, Node, Parameter, int], NamedNumbers]]] = {
    "batch_norm": ("ab", norm_constants),
    "batch_norm_input_grad": ("abc", norm_grad_constants),
    "batch_norm_eval_grad": ("a", norm_eval_constants),
}


def batch_norm(p: Point, n: Node) -> None:
    """x * a + b"""
    scaled = p.v.mul(p.number(n.inputs[0]), p.constant(n, "a"))
    p.put(n.results[0], p.v.add(scaled, p.constant(n, "b")))


def batch_norm_input_grad(p: Point, n: Node) -> None:
    """g * a + x * b + c"""
    g = p.v.mul(p.number(n.inputs[0]), p.constant(n, "a"))
    x = p.v.mul(p.number(n.inputs[1]), p.constant(n, "b"))
    p.put(n.results[0], p.v.add(p.v.add(g, x), p.constant(n, "c")))


def batch_norm_eval_grad(p: Point, n: Node) -> None:
    """g * a"""
    p.put(n.results[0], p.v.mul(p.number(n.inputs[0]), p.constant(n, "a")))


def relu(p: Point, n: Node) -> None:
    """NaN stays; minus zero becomes zero."""
    x, zero = p.number(n.inputs[0]), p.v.splat(0.0)
    p.choose(n.results[0], n.inputs[0], p.v.f(p.v.where(x <= zero, zero, x)))


def relu_grad(p: Point, n: Node) -> None:
    """By the numbers of the ReLU's result, or by a region mask."""
    g, y = n.inputs
    coded = p.type(y).format.is_coded
    passes = p.code(y) != p.v.u(0) if coded else p.number(y) > p.v.splat(0.0)
    p.choose(n.results[0], g, p.v.f(p.v.where(passes, p.number(g), p.v.splat(0.0))))


def binary(operate: Callable[[Vectors, Expr, Expr], Expr]) -> Evaluate:
    """An op of two whole tensors."""

    def rule(p: Point, n: Node) -> None:
        a, b = (p.number(i) for i in n.inputs)
        p.put(n.results[0], operate(p.v, a, b))

    return rule


def scale(p: Point, n: Node) -> None:
    """x * factor"""
    p.put(n.results[0], p.v.mul(p.number(n.inputs[0]), p.v.splat(n.number("factor"))))


def add_bias(p: Point, n: Node) -> None:
    """b per channel"""
    x, bias = n.inputs
    raw = p.along(p.frame.data[bias], 1)
    b = p.v.f(from_memory(p.v, raw, p.type(bias).format))
    p.put(n.results[0], p.v.add(p.number(x), b))


def clamp_min(p: Point, n: Node) -> None:
    """NaN stays."""
    x, low = p.number(n.inputs[0]), p.v.splat(n.number("low"))
    p.put(n.results[0], p.v.f(p.v.where(x < low, low, x)))


def broadcast(p: Point, n: Node) -> None:
    """The operand has the dimensions ``dims`` with size 1 or lacks them."""
    (x,) = n.inputs
    layout, dims = p.frame.spec.layout(x), n.attr("dims")
    assert isinstance(dims, tuple)
    strides = memory_strides(layout)
    shape = p.type(n.results[0]).shape
    if len(layout.type.shape) < len(shape):
        kept = [d for d in range(len(shape)) if d not in dims]
        strides = {d: strides[i] for i, d in enumerate(kept)}
    offset, step = p.address({d: s for d, s in strides.items() if d not in dims})
    f = layout.type.format
    if step:
        p.put(
            n.results[0],
            p.v.f(
                from_memory(p.v, p.read(p.frame.data[x], layout, ramp(offset, p.v.lanes, step)), f)
            ),
        )
        return
    one = Vectors(p.v.code, 1)
    number = one.f(from_memory(one, load(p.frame.data[x], offset), f))
    p.put(n.results[0], p.v.f(p.v.splat(number)))


def cast(p: Point, n: Node) -> None:
    """To a carrier or to codes."""
    (y,) = n.results
    x = p.number(n.inputs[0])
    f = p.type(y).format
    if f.listed:
        p.put_code(y, nearest(p.v, x, f, p.frame.begins[f]))
    elif f.is_coded:
        p.put_code(y, encode(p.v, x, f))
    else:
        p.put(y, x)


def rescale(p: Point, n: Node) -> None:
    """The same codes; ``Frame.scale`` knows the scale."""
    p.put_code(n.results[0], p.code(n.inputs[0]))


def stored_numbers(p: Point, n: Node) -> None:
    """Codes decoded, whatever their scale."""
    p.put(n.results[0], p.number(n.inputs[0]))


def limit_of(p: Point, n: Node, name: str) -> Expr:
    """A scalar of ``clip_scalars``; where the clip has one number a channel, made here."""
    if (n, "limit") in p.frame.scalars:
        return p.constant(n, name)
    if (n.results[0], name) not in p.limits:
        limit = p.v.f(p.along(p.frame.data[_clip(n)], 0))
        top = p.constant(n, "top") if (n, "top") in p.frame.scalars else None
        made = {"limit": limit, **_limits(p.v, limit, top)}
        p.limits.update({(n.results[0], k): e for k, e in made.items()})
    return p.limits[n.results[0], name]


def quantize(p: Point, n: Node) -> None:
    """rint(min(max(x, low), limit) * (n / limit)); NaN counts as the lower limit."""
    (q,), v = n.results, p.v
    f = p.type(q).format
    x, limit = p.number(n.inputs[0]), limit_of(p, n, "limit")
    low = limit_of(p, n, "low") if f.signed else v.splat(0.0)
    low = v.mul(limit, v.splat(f.ends[0] / f.ends[1])) if f.ends else low
    x = v.f(v.where(x > low, x, low))
    z = v.mul(v.f(v.where(x < limit, x, limit)), limit_of(p, n, "ratio"))
    if not f.midrise:
        p.put_code(q, integer_bits(v, z, f.bits))
        return
    top, highest = p.constant(n, "top"), v.splat(top_number(p.type(q)))
    code = integer_bits(v, v.mul(v.add(z, top), v.splat(0.5)), f.bits)
    if n.kind == "quantize_bits":
        more = v.cast(v.mul(v.sub(highest, top), v.splat(0.5)), "uint32")
        code = (code + more) & v.u((1 << f.bits) - 1)
    p.put_code(q, code)


def regions(p: Point, n: Node, x: Expr) -> tuple[Expr, Expr]:
    """Where ``x`` lies below and above the clip."""
    signed = bool(n.attr("signed"))
    below = x < limit_of(p, n, "low") if signed else x <= p.v.splat(0.0)
    return below, x > limit_of(p, n, "limit")


def clip_region(p: Point, n: Node) -> None:
    """0 below, 1 inside, 2 above."""
    below, above = regions(p, n, p.number(n.inputs[0]))
    code = p.v.where(above, p.v.u(2), p.v.where(below, p.v.u(0), p.v.u(1)))
    p.put_code(n.results[0], code)


def pact_grad(p: Point, n: Node) -> None:
    """g where the region mask lets it pass."""
    g, m = n.inputs
    code, one, two = p.code(m), p.v.u(1), p.v.u(2)
    passes = code == one if n.attr("signed") else code != two
    p.choose(n.results[0], g, p.v.f(p.v.where(passes, p.number(g), p.v.splat(0.0))))


def pact_plus_grad(p: Point, n: Node) -> None:
    """As ``pact_grad``, with the region from x."""
    g, x = (p.number(i) for i in n.inputs[:2])
    below, above = regions(p, n, x)
    zero = p.v.splat(0.0)
    inside = p.v.f(p.v.where(above, zero, g))
    dx = p.v.f(p.v.where(below, zero, inside)) if n.attr("signed") else inside
    p.choose(n.results[0], n.inputs[0], dx)


def grad_scale(p: Point, n: Node) -> None:
    """g * s"""
    p.put(n.results[0], p.v.mul(p.number(n.inputs[0]), p.constant(n, "s")))


def normalize(p: Point, n: Node) -> None:
    """g / unit, 0 where unit is 0"""
    unit, zero = p.constant(n, "s"), p.v.splat(0.0)
    quotient = p.v.div(p.number(n.inputs[0]), unit)
    p.put(n.results[0], p.v.f(p.v.where(unit.equal(zero), zero, quotient)))


def round_log(p: Point, n: Node) -> None:
    """The largest level L with |g| >= L / up (> where ties go down), by the exponent field."""
    (q,), v = n.results, p.v
    f = p.type(q).format
    g = p.number(n.inputs[0])
    down = n.attr("tie") == "down"
    level = v.unsigned(log_level(v, g, f, f32_above(f.smallest / n.number("up"), down)))
    if n.attr("underflow") == "nearest":
        level = v.hold(level)
        half = v.u(f32_above(f.smallest / 2, down))
        reaches = (v.bits(g) & v.u(0x7FFFFFFF)) >= half
        level = v.where(reaches, tir.max(level, v.u(1)), v.u(0))
    p.put_code(q, level | sign_code(v, g, f))


def round_flag(p: Point, n: Node) -> None:
    """rint(|g|) below c, from there on c * min(rint(|g| / c), c - 1), with the sign of g."""
    (q,), v = n.results, p.v
    c = 2.0 ** (n.number("bits") - 1)
    g = nan_to_infinity(v, p.number(n.inputs[0]))
    size = v.magnitude(g)
    steps = v.f(tir.min(v.rint(v.mul(size, v.splat(1 / c))), v.splat(c - 1)))
    level = v.f(v.where(size < v.splat(c), v.rint(size), v.mul(steps, v.splat(c))))
    negative = v.mul(level, v.splat(-1.0))
    signed = v.f(v.where(g < v.splat(0.0), negative, level))
    p.put_code(q, integer_bits(v, signed, p.type(q).format.bits))


def round_fixed(p: Point, n: Node) -> None:
    """rint(x * 2^(bits - 1)) * 2^(1 - bits)"""
    steps, v = 2.0 ** (n.number("bits") - 1), p.v
    whole = v.rint(v.mul(p.number(n.inputs[0]), v.splat(steps)))
    p.put(n.results[0], v.mul(whole, v.splat(1 / steps)))


RULES: dict[str, Evaluate] = {
    "batch_norm": batch_norm,
    "batch_norm_input_grad": batch_norm_input_grad,
    "batch_norm_eval_grad": batch_norm_eval_grad,
    "relu": relu,
    "relu_grad": relu_grad,
    "add": binary(Vectors.add),
    "sub": binary(Vectors.sub),
    "mul": binary(Vectors.mul),
    "scale": scale,
    "add_bias": add_bias,
    "clamp_min": clamp_min,
    "broadcast": broadcast,
    "cast": cast,
    "dequantize": dequantize,
    "rescale": rescale,
    "stored_numbers": stored_numbers,
    **dict.fromkeys(("quantize", "quantize_bits"), quantize),
    **dict.fromkeys(("quantize_affine", "quantize_affine_stochastic"), quantize_affine),
    "squeeze": squeeze,
    "clip_region": clip_region,
    "pact_grad": pact_grad,
    "pact_plus_grad": pact_plus_grad,
    "grad_scale": grad_scale,
    "normalize": normalize,
    "round_log": round_log,
    "round_stochastic": round_stochastic,
    "round_flag": round_flag,
    "round_fixed": round_fixed,
    "round_float": round_float,
    "random_mask": random_mask,
    "random_uniform": random_uniform,
    "initialize": initialize,
    **MATH,
    **BLOCKS,
}
