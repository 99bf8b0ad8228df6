"""The optimizer's step, in f32 and in the written order; see ``reference/update``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx as tir

from ..expr import Expr, Vectors, i32, load
from ..formats import from_memory
from ..math import exp, log1p
from ..pointwise.space import memory_dims, memory_strides
from .grid import Single, Spot, flat
from .loops import Buffers

# From vectors and the numbers w, dw, kept ... at a place to w1, kept1 ...
UpdateRule = Callable[[Vectors, Sequence[Expr]], Sequence[Expr]]


def sgd(b: Buffers, spec: Single) -> None:
    """With momentum, dampening, weight decay, nesterov."""
    one = Vectors(b.code, 1)
    lr, momentum, dampening, decay = (one.f(load(b.inputs[i], i32(0))) for i in range(4, 8))
    fresh = one.sub(one.splat(1.0), dampening)
    first = load(b.inputs[3], i32(0)).equal(tir.const(0, spec.inputs[3].dtype))
    # 1 in the first step, else 0; a mask that all lanes share.
    begins = one.f(tir.Cast("float32", first))
    nesterov = spec.op.bool_attr("nesterov")

    def rule(v: Vectors, read: Sequence[Expr]) -> Sequence[Expr]:
        weight, grad, old = read
        d = v.add(grad, v.mul(v.splat(decay), weight))
        kept = v.add(v.mul(v.splat(momentum), old), v.mul(v.splat(fresh), d))
        new = v.f(v.where(v.splat(begins) > v.splat(0.0), d, kept))
        used = v.add(d, v.mul(v.splat(momentum), new)) if nesterov else new
        still = v.splat(momentum).equal(v.splat(0.0))
        used = v.f(v.where(still, d, used))
        return v.sub(weight, v.mul(v.splat(lr), used)), v.f(v.where(still, old, new))

    _each(b, spec, rule)


def adam(b: Buffers, spec: Single) -> None:
    """With decay in the gradient or decoupled."""
    one = Vectors(b.code, 1)
    lr, rest1, rest2, eps, decay = (one.f(load(b.inputs[i], i32(0))) for i in range(5, 10))
    decoupled = spec.op.bool_attr("decoupled_weight_decay")
    size = one.div(lr, _correction(b, rest1))
    spread = one.sqrt(_correction(b, rest2))
    shrink = one.sub(one.splat(1.0), one.mul(lr, decay))
    stay = one.sub(one.splat(1.0), rest2)

    def rule(v: Vectors, read: Sequence[Expr]) -> Sequence[Expr]:
        weight, g, m, s = read
        if not decoupled:
            g = v.add(g, v.mul(v.splat(decay), weight))
        m1 = v.add(m, v.mul(v.sub(g, m), v.splat(rest1)))
        s1 = v.add(v.mul(s, v.splat(stay)), v.mul(v.mul(g, g), v.splat(rest2)))
        below = v.add(v.div(v.sqrt(s1), v.splat(spread)), v.splat(eps))
        base = v.mul(weight, v.splat(shrink)) if decoupled else weight
        return v.sub(base, v.mul(v.splat(size), v.div(m1, below))), m1, s1

    _each(b, spec, rule)


def _correction(b: Buffers, rest: Expr) -> Expr:
    """1 - (1 - rest)^(step + 1), in f64, then rounded."""
    one, wide = Vectors(b.code, 1), Vectors(b.code, 1, "float64")
    count = wide.f(wide.cast(load(b.inputs[4], i32(0)), "float64"))
    t = wide.add(count, wide.splat(1.0))
    beta = wide.mul(wide.f(wide.cast(rest, "float64")), wide.splat(-1.0))
    power = exp(wide, wide.mul(t, log1p(wide, beta)))
    return one.f(one.cast(wide.sub(wide.splat(1.0), power), "float32"))


def rmsprop(b: Buffers, spec: Single) -> None:
    """With momentum and weight decay."""
    one = Vectors(b.code, 1)
    lr, alpha, eps, momentum, decay = (one.f(load(b.inputs[i], i32(0))) for i in range(4, 9))
    rest = one.sub(one.splat(1.0), alpha)

    def rule(v: Vectors, read: Sequence[Expr]) -> Sequence[Expr]:
        weight, g, s, m = read
        g = v.add(g, v.mul(v.splat(decay), weight))
        s1 = v.add(v.mul(s, v.splat(alpha)), v.mul(v.mul(g, g), v.splat(rest)))
        below = v.add(v.sqrt(s1), v.splat(eps))
        moved = v.div(g, below)
        m1 = v.add(v.mul(v.splat(momentum), m), moved)
        still = v.splat(momentum).equal(v.splat(0.0))
        used = v.f(v.where(still, moved, m1))
        return v.sub(weight, v.mul(v.splat(lr), used)), s1, v.f(v.where(still, m, m1))

    _each(b, spec, rule)


def _each(b: Buffers, spec: Single, rule: UpdateRule) -> None:
    """Run a rule over a parameter and what stands beside it."""
    many = len(spec.outputs)
    layouts = [*spec.inputs[: many + 1], *spec.outputs]
    line, w = flat(layouts), spec.inputs[0]
    strides = [{0: 1} if line else memory_strides(x) for x in layouts]

    def body(s: Spot) -> None:
        read = []
        for i in range(many + 1):
            raw = s.raw(b.inputs[i], layouts[i].dtype, strides[i])
            read.append(s.v.f(from_memory(s.v, raw, layouts[i].type.format)))
        if spec.op.bool_attr("maximize"):
            read[1] = s.v.f(s.v.splat(-1.0) * read[1])
        for i, x in enumerate(rule(s.v, read)):
            layout = spec.outputs[i]
            if s.v.lanes > 1 and line and layout.bytes >= b.code.dialect.streamed_bytes:
                b.code.stream(b.outputs[i], s.at[s.side], x, s.v.lanes)
            else:
                s.put(b.outputs[i], layout, x, strides[many + 1 + i])

    if line:
        b.loops.over((w.type.elements,), (0,), spec.lanes, body)
    else:
        b.loops.over(w.type.shape, memory_dims(w), spec.lanes, body)


UPDATE = {"sgd": sgd, "adam": adam, "rmsprop": rmsprop}
