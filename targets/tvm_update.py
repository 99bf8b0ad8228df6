"""The optimizer's step, in f32 and in the written order."""

from __future__ import annotations

from tvm import tirx as tir

from .tvm_expr import STREAMED_BYTES, Expr, Vectors, i32, load, stream
from .tvm_formats import from_memory
from .tvm_grid import Buffers, Single, Spot, flat, over
from .tvm_pointwise_space import memory_dims, memory_strides


def sgd(b: Buffers, spec: Single) -> None:
    """See ``reference_update.sgd``; one parameter."""
    one = Vectors(b.code, 1)
    lr, momentum, dampening, decay = (one.f(load(b.inputs[i], i32(0))) for i in range(4, 8))
    fresh = one.sub(one.splat(1.0), dampening)
    first = tir.any(
        load(b.inputs[3], i32(0)).equal(tir.const(0, spec.inputs[3].dtype)),
        momentum.equal(one.splat(0.0)),
    )
    # 1 in the first step, else 0; a mask that all lanes share.
    begins = one.f(tir.Cast("float32", first))
    w, dw, m = spec.inputs[:3]

    def body(s: Spot) -> None:
        v = s.v
        strides = [memory_strides(x) for x in (w, dw, m)]
        weight, grad, old = (_read(s, b.inputs[i], spec, i, strides[i]) for i in range(3))
        if spec.op.bool_attr("maximize"):
            grad = v.f(v.splat(-1.0) * grad)
        d = v.add(grad, v.mul(v.splat(decay), weight))
        kept = v.add(v.mul(v.splat(momentum), old), v.mul(v.splat(fresh), d))
        new = v.f(v.where(v.splat(begins) > v.splat(0.0), d, kept))
        nesterov = spec.op.bool_attr("nesterov")
        used = v.add(d, v.mul(v.splat(momentum), new)) if nesterov else new
        step = v.sub(weight, v.mul(v.splat(lr), used))
        for i, x in enumerate((step, new)):
            layout = spec.outputs[i]
            strides_ = _strides(spec, memory_strides(layout))
            if v.lanes > 1 and _flat(spec) and layout.bytes >= STREAMED_BYTES:
                stream(b.code, b.outputs[i], s.at[s.side], x, v.lanes)
            else:
                s.put(b.outputs[i], layout, x, strides_)

    if _flat(spec):
        over(b.code, (w.type.elements,), (0,), spec.lanes, body)
    else:
        over(b.code, w.type.shape, memory_dims(w), spec.lanes, body)


def _flat(spec: Single) -> bool:
    return flat([*spec.inputs[:3], *spec.outputs])


def _strides(spec: Single, strides: dict[int, int]) -> dict[int, int]:
    return {0: 1} if _flat(spec) else strides


def _read(s: Spot, buffer: Expr, spec: Single, i: int, strides: dict[int, int]) -> Expr:
    layout = spec.inputs[i]
    raw = s.raw(buffer, layout.dtype, _strides(spec, strides))
    return s.v.f(from_memory(s.v, raw, layout.type.format))


UPDATE = {"sgd": sgd}
