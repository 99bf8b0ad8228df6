"""Shifted and squeezed numbers, and back to real ones, at a point of a pointwise kernel.

In the order of arithmetic of ``tensor.py``. A number becomes a code in f32; the real numbers of the
few codes are a table, which the kernel begins with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ....compiler.types import Scale
from ...numbers.powers import LEAST, LN2
from ..expr import Expr, Vectors, i32, load, ramp, typed
from ..formats import decode_magnitude, encode
from ..math import exp_any, log_any
from ..powers import exp2, log2
from .point import Frame, Point
from .space import Node


def squeeze_scalars(frame: Frame, node: Node) -> Mapping[str, Expr]:
    """alpha and beta."""
    v = Vectors(frame.code, 1)
    return {name: v.f(frame.scalar(i)) for name, i in zip(PARTS, node.inputs[1:], strict=True)}


PARTS = ("alpha", "beta")


def squeeze(p: Point, n: Node) -> None:
    """2^beta |x|^alpha with the sign of x, in f32 and then to nearest even."""
    (q,), v = n.results, p.v
    alpha, beta = (p.constant(n, name) for name in PARTS)
    x = p.number(n.inputs[0])
    size = v.magnitude(x)
    small = size < v.splat(LEAST)
    logs = log2(v, v.f(v.where(small, v.splat(1.0), size)))
    power = exp2(v, v.add(v.mul(alpha, logs), beta))
    number = _signed(v, v.f(v.where(small, v.splat(0.0), power)), x)
    p.put_code(q, encode(v, number, p.type(q).format))


@contextmanager
def tables(frame: Frame, lanes: int) -> Iterator[None]:
    """Real numbers of all codes without their sign, of each value that the kernel dequantizes."""
    values = {n.inputs[0] for n in frame.spec.nodes if n.kind == "dequantize"}
    wanted = sorted(q for q in values if frame.spec.types[q].scale is Scale.SQUEEZED)
    if not wanted:
        yield
        return
    sizes = [1 << (frame.spec.types[q].format.bits - 1) for q in wanted]
    with frame.code.workspace("float32", sum(sizes)) as buffer:
        start = 0
        for q, size in zip(wanted, sizes, strict=True):
            frame.tables[q] = (buffer, start)
            with frame.code.spread(size // lanes) as i:
                v, first = Vectors(frame.code, lanes), i * i32(lanes)
                number = _real(frame, v, q, v.cast(ramp(first, lanes), "uint32"))
                frame.code.store(buffer, ramp(first + i32(start), lanes), number)
            start += size
        yield


def _real(frame: Frame, v: Vectors, q: int, magnitude: Expr) -> Expr:
    """(2^-beta |q|)^(1/alpha) of codes without their sign, in f64 and rounded once."""
    w = Vectors(v.code, v.lanes, "float64")
    alpha, beta = (w.f(v.cast(v.splat(part), "float64")) for part in _parts(frame, q))
    x = v.f(decode_magnitude(v, magnitude, frame.spec.types[q].format))
    logs = log_any(w, w.f(v.cast(x, "float64")))
    size = exp_any(w, w.div(w.sub(logs, w.mul(beta, w.splat(LN2))), alpha))
    return v.f(v.cast(size, "float32"))


def unsqueeze(p: Point, q: int) -> Expr:
    """The real number of each code, from its table."""
    v, half = p.v, p.type(q).format.bits - 1
    code, (buffer, start) = p.code(q), p.frame.tables[q]
    place = v.cast(code & v.u((1 << half) - 1), "int32") + v.i(start)
    size = v.code.let(load(buffer, place), typed("float32", v.lanes))
    sign = (code >> v.u(half)) << v.u(31)
    return v.f(v.to_f(v.bits(size) | sign))


def store_parts(frame: Frame, value: int) -> None:
    """Write alpha and beta of a result."""
    for k, i in enumerate(frame.spec.makers[value].inputs[1:]):
        frame.code.store(frame.scales[value], i32(k), frame.scalar(i))


def _parts(frame: Frame, q: int) -> tuple[Expr, Expr]:
    if q in frame.spec.inputs:
        buffer = frame.scales[q]
        return load(buffer, i32(0)), load(buffer, i32(1))
    maker = frame.spec.makers[q]
    assert maker.kind == "squeeze", maker.kind
    alpha, beta = (frame.scalars[maker, name] for name in PARTS)
    return alpha, beta


def _signed(v: Vectors, size: Expr, like: Expr) -> Expr:
    return v.f(v.to_f(v.bits(v.magnitude(size)) | (v.bits(like) & v.u(0x80000000))))
