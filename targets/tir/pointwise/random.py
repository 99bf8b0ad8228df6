"""Pointwise ops that draw random numbers: by Threefry from seed, step, salt and element index."""

from __future__ import annotations

from collections.abc import Mapping

from tvm import tirx as tir

from ....compiler.formats import HALF_FLOATS
from ...numbers.threefry import PARITY
from ..expr import Expr, Vectors, i32, load, ramp
from ..formats import f32_bits, is_nan
from ..stochastic import encode_stochastic, threefry
from .point import Frame, Point
from .space import Node


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


def round_float(p: Point, n: Node) -> None:
    """Up where u gap < |x| - low; the gap between neighbours is a power of two."""
    v, x, u = p.v, p.number(n.inputs[0]), uniform(p, n)
    to = HALF_FLOATS[str(n.attr("to"))]
    f = to.format
    size = v.f(tir.min(v.magnitude(x), v.splat(to.top)))
    # The exponent of the gap, as the bits of an f32.
    exponent = v.hold(tir.max(v.bits(size), v.u(f32_bits(to.normal))) >> v.u(23)) - v.u(f.man)
    gap = v.f(v.to_f(v.hold(exponent << v.u(23))))
    steps = v.mul(size, v.f(v.to_f(v.hold((v.u(254) - exponent) << v.u(23)))))
    low = v.mul(v.cast(v.cast(steps, "int32"), "float32"), gap)
    if not f.subnormals:
        tiny, least = size < v.splat(to.least), v.splat(to.least)
        low, gap = v.f(v.where(tiny, v.splat(0.0), low)), v.f(v.where(tiny, least, gap))
    up = v.mul(u, gap) < v.sub(size, low)
    made = v.add(low, v.f(v.where(up, gap, v.splat(0.0))))
    signed = v.to_f(v.bits(made) | (v.bits(x) & v.u(0x80000000)))
    p.put(n.results[0], v.f(v.where(is_nan(v, x), x, signed)))


def random_mask(p: Point, n: Node) -> None:
    """1 where u < keep."""
    below = uniform(p, n) < p.v.splat(n.number("keep"))
    p.put(n.results[0], p.v.f(p.v.where(below, p.v.splat(1.0), p.v.splat(0.0))))


def random_uniform(p: Point, n: Node) -> None:
    """u itself."""
    p.put(n.results[0], uniform(p, n))


def initialize(p: Point, n: Node) -> None:
    """(u - 1/2) * 2 bound where the step, the second key, is 0."""
    v = p.v
    drawn = v.mul(v.sub(uniform(p, n), v.splat(0.5)), v.splat(2 * n.number("bound")))
    first = v.bits(p.constant(n, "key1")).equal(v.u(0))
    p.put(n.results[0], v.f(v.where(first, drawn, p.number(n.inputs[0]))))
