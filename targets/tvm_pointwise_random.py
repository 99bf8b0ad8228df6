"""Pointwise ops that draw random numbers: by Threefry from seed, step, salt and element index."""

from __future__ import annotations

from collections.abc import Mapping

from .threefry import PARITY
from .tvm_expr import Expr, Vectors, i32, load, ramp
from .tvm_pointwise_point import Frame, Point
from .tvm_pointwise_space import Node
from .tvm_stochastic import encode_stochastic, threefry


def threefry_keys(frame: Frame, node: Node) -> Mapping[str, Expr]:
    """The three key words, as f32 bit patterns so that they pass as scalars."""
    v = Vectors(frame.code, 1)
    seed, step = (v.hold(v.cast(load(frame.data[i], i32(0)), "uint32")) for i in node.inputs[-2:])
    keys = seed, step, v.hold(seed ^ step ^ v.u(int(PARITY)))
    return {f"key{i}": v.f(v.to_f(key)) for i, key in enumerate(keys)}


def uniform(p: Point, n: Node) -> Expr:
    """Numbers in [0, 1) from Threefry by logical element index."""
    v = p.v
    keys = [v.bits(p.constant(n, f"key{i}")) for i in range(3)]
    shape, strides, step = p.frame.space.shape, {}, 1
    for d in reversed(range(len(shape))):
        strides[d], step = step, step * shape[d]
    if p.frame.space.flat:
        index = ramp(p.row * i32(p.frame.space.channels) + p.first, v.lanes)
    else:
        offset, between = p.address(strides)
        index = ramp(offset, v.lanes, between)
    salt = int(n.number("salt")) & 0xFFFFFFFF
    # The only element has a constant index, which LLVM takes for no name to be held.
    only = p.frame.space.rows * p.frame.space.channels == 1
    counter = v.u(0) if only else v.hold(v.cast(index, "uint32"))
    word = threefry(v, keys, v.u(salt), counter)
    return v.mul(v.cast(v.signed(word >> v.u(8)), "float32"), v.splat(2.0**-24))


def round_stochastic(p: Point, n: Node) -> None:
    """Up where u (high - low) < g - low."""
    (q,) = n.results
    g, u = p.number(n.inputs[0]), uniform(p, n)
    p.put_code(q, encode_stochastic(p.v, g, p.type(q).format, u))


def random_mask(p: Point, n: Node) -> None:
    """1 where u < keep."""
    below = uniform(p, n) < p.v.splat(n.number("keep"))
    p.put(n.results[0], p.v.f(p.v.where(below, p.v.splat(1.0), p.v.splat(0.0))))


def initialize(p: Point, n: Node) -> None:
    """(u - 1/2) * 2 bound where the step, the second key, is 0."""
    v = p.v
    drawn = v.mul(v.sub(uniform(p, n), v.splat(0.5)), v.splat(2 * n.number("bound")))
    first = v.bits(p.constant(n, "key1")).equal(v.u(0))
    p.put(n.results[0], v.f(v.where(first, drawn, p.number(n.inputs[0]))))
