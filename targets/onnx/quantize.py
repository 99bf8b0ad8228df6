"""Quantizers in ONNX: codes as the numbers that they stand for.

    codes = rint(min(max(x, low), high) * factor)      real numbers = codes * scale

A pair of nodes divides by the scale, which is the factor's inverse but for the last bit: a number
within that of the middle between two codes may take the other one. With ``exact`` the factor is a
node, the pair has scale 1, and codes are the program's to the last one.
"""

from __future__ import annotations

import numpy as np

from ...compiler.formats import Format
from ...compiler.ir import Op
from ...compiler.types import Scale
from ..numbers.powers import LEAST
from ..numbers.tensor import Tensor
from ..reference.quantize import LEAST_STEP, whole_bits
from .elements import ElementType, code_range, element_of
from .frame import Context, InGraph, Limits, Lower, Unwritable
from .graph import Array


def clip(c: Context, x: str, low: str, high: str) -> str:
    """Between two numbers, or two a place.

    Max and Min: onnxruntime merges a Clip into QuantizeLinear, which fails for 4 bits and FP8.
    """
    return c.g.op("Min", c.g.op("Max", x, low), high)


def rounded(
    c: Context, x: str, scale: str, f: Format, ends: tuple[int, int], limits: Limits
) -> str:
    """See ``OnnxDialect.rounded``; Unwritable becomes an error of the op."""
    try:
        return c.dialect.rounded(c.g, x, scale, f, ends, limits)
    except Unwritable as what:
        c.refuse(str(what))


def _free(x: str) -> str:
    return x


def quantize(c: Context, op: Op) -> InGraph:
    """Between a clip and 0 or its negative; a third operand says the bits."""
    x, f, rank = c.real(op.inputs[0]), op.result.type.format, len(op.result.type.shape)
    clip_, n = _top(c, op, c.real(op.inputs[1]), f)
    limit = c.column(clip_, rank) if op.inputs[1].type.shape else clip_
    least, most = f.ends or (-int(f.signed), 1)
    low = c.g.op("Mul", limit, c.g.f32(least / most))
    scale, factor = c.g.op("Div", clip_, n), c.g.op("Div", n, limit)
    if f.midrise:
        z = c.g.op("Add", c.g.op("Mul", clip(c, x, low, limit), factor), n)
        codes = rounded(c, z, c.g.f32(2.0), f, code_range(f), _free)
        numbers = c.g.op("Sub", codes, n)
        return apart(c, numbers, scale, rank, per_channel=bool(op.inputs[1].type.shape))
    if c.exact or op.inputs[1].type.shape or c.g.array(n) is None:
        z = c.g.op("Mul", clip(c, x, low, limit), factor)
        numbers = rounded(c, z, c.g.f32(1.0), f, code_range(f), _free)
        return apart(c, numbers, scale, rank, per_channel=bool(op.inputs[1].type.shape))
    top = int(_number(c, n))
    ends = f.ends or (-top * int(f.signed), top)
    return InGraph(rounded(c, x, scale, f, ends, lambda v: clip(c, v, low, limit)))


def apart(c: Context, numbers: str, scale: str, rank: int, *, per_channel: bool = False) -> InGraph:
    """Codes with their scale: one value, or the product at once where nothing is to be exact."""
    held = InGraph(numbers, scale, per_channel)
    return held if c.exact else InGraph(c.times_scale(held, rank))


def _number(c: Context, name: str) -> float:
    array = c.g.array(name)
    assert array is not None, f"{name} is known when the graph runs"
    return float(array)


def _top(c: Context, op: Op, limit: str, f: Format) -> tuple[str, str]:
    """The clip, which must be positive, and the integer that it becomes."""
    array = c.g.array(limit)
    if array is not None and not (array.min() > 0 and array.max() < np.inf):
        c.refuse(f"has a clip of {array.min():g} to {array.max():g}; a clip is a number above 0")
    sign = int(f.signed and not f.midrise)
    if len(op.inputs) == 2:
        return limit, c.g.f32((1 << f.bits) - 1 if f.midrise else f.max)
    return limit, levels(c, op, 2, f.bits, sign)


def levels(c: Context, op: Op, i: int, most: int, sign: int = 0) -> str:
    """2^(bits - sign) - 1 of an operand of bits: whole, at least 1 beside the sign, at most all."""
    bits = c.real(op.inputs[i])
    array = c.g.array(bits)
    if array is not None:
        whole = whole_bits(array, most, sign) - sign
        return c.g.constant(np.asarray((1 << whole) - 1, np.float32))
    known = c.g.op("Clip", bits, c.g.f32(1 + sign), c.g.f32(most))
    power = c.g.op("Sub", c.g.op("Floor", known), c.g.f32(sign))
    return c.g.op("Sub", c.g.op("Pow", c.g.f32(2.0), power), c.g.f32(1.0))


def quantize_affine(c: Context, op: Op) -> InGraph:
    """Steps from the lower limit on; the limit is taken off ahead and put back behind."""
    f, rank = op.result.type.format, len(op.result.type.shape)
    x, low, high = map(c.real, op.inputs[:3])
    n = levels(c, op, 3, f.bits)
    step = c.g.op(
        "Max", c.g.op("Div", c.g.op("Sub", high, low), n), c.g.constant(np.asarray(LEAST_STEP))
    )
    low, step = (_placed(c, v, op, rank) for v in (low, step))
    above = c.g.op("Sub", x, low)
    known = [c.g.array(v) for v in (step, n)]
    if all(a is not None and a.ndim == 0 for a in known):
        ends = 0, int(_number(c, n))
        top = c.g.op("Mul", step, n)
        made = rounded(c, above, step, f, ends, lambda v: clip(c, v, c.g.f32(0.0), top))
    else:
        z = c.g.op("Max", c.g.op("Div", above, step), c.g.f32(0.0))
        z = c.g.op("Min", z, _placed(c, n, op, rank))
        codes = rounded(c, z, c.g.f32(1.0), f, code_range(f), _free)
        made = c.g.op("Mul", codes, step)
    return InGraph(c.g.op("Add", made, low))


def _placed(c: Context, v: str, op: Op, rank: int) -> str:
    """A limit shaped to act on the tensor: one a place of dimension 0, or one."""
    array = c.g.array(v)
    several = array.ndim > 0 if array is not None else op.result.type.scale.per_channel
    return c.column(v, rank) if several else v


def squeeze(c: Context, op: Op) -> InGraph:
    """2^beta |x|^alpha in f64, with the sign of x, as codes of a float; and back."""
    x, alpha, beta = (c.real(v) for v in op.inputs)
    size = c.g.op("Abs", x)
    tiny = c.g.op("Less", size, c.g.f32(LEAST))
    known = c.g.op("Where", tiny, c.g.f32(1.0), size)
    logs = c.g.op("Mul", c.g.op("Log", _double(c, known)), _double(c, alpha))
    two = c.g.constant(np.asarray(np.log(2.0)))
    power = c.g.op("Exp", c.g.op("Add", logs, c.g.op("Mul", _double(c, beta), two)))
    made = c.g.op("Where", tiny, c.g.f32(0.0), _single(c, power))
    made = c.g.op("Mul", made, c.g.op("Sign", x))
    f = op.result.type.format
    return InGraph(unsqueezed(c, rounded_float(c, made, f), alpha, beta))


def unsqueezed(c: Context, q: str, alpha: str, beta: str) -> str:
    """(2^-beta |q|)^(1/alpha) with the sign of q, in f64, rounded once."""
    two = c.g.constant(np.asarray(np.log(2.0)))
    logs = c.g.op("Log", _double(c, c.g.op("Abs", q)))
    shifted = c.g.op("Sub", logs, c.g.op("Mul", _double(c, beta), two))
    size = c.g.op("Exp", c.g.op("Div", shifted, _double(c, alpha)))
    return c.g.op("Mul", _single(c, size), c.g.op("Sign", q))


def _double(c: Context, x: str) -> str:
    array = c.g.array(x)
    if array is not None:
        return c.g.constant(array.astype(np.float64))
    return c.g.op("Cast", x, to=ElementType.DOUBLE.value)


def _single(c: Context, x: str) -> str:
    return c.g.op("Cast", x, to=ElementType.FLOAT.value)


def rounded_float(c: Context, x: str, f: Format) -> str:
    """Numbers of a float of 8 bits, saturated ahead.

    So no Relu is next to QuantizeLinear: onnxruntime drops it there, as if FP8 had no sign.
    """
    within = clip(c, x, c.g.f32(-f.max), c.g.f32(f.max))
    try:
        return c.dialect.rounded_float(c.g, within, f)
    except Unwritable as what:
        c.refuse(str(what))


def cast(c: Context, op: Op) -> str | InGraph:
    """To a carrier, or stored numbers to codes that keep their scale."""
    x, f = op.inputs[0], op.result.type.format
    if not f.is_coded:
        return c.held(x) if op.result.type.scale is not Scale.NONE else c.real(x)
    if not x.type.format.is_carrier:
        c.refuse(f"casts codes of {x.type.format} to {f}; a cast of a carrier can be written")
    if f.listed:
        c.refuse(f"casts to {f}, a list of levels; ONNX has no type for its codes")
    held = c.held(x)
    rank, keeps = len(x.type.shape), op.result.type.scale is not Scale.NONE
    numbers = held.numbers
    if f.exp:
        made = rounded_float(c, numbers, f)
    else:
        ends = code_range(f)
        low, high = (c.g.f32(float(e)) for e in ends)
        made = rounded(c, numbers, c.g.f32(1.0), f, ends, lambda v: clip(c, v, low, high))
    if held.scale is None or not keeps:
        return InGraph(made)
    return apart(c, made, held.scale, rank, per_channel=held.per_channel)


def dequantize(c: Context, op: Op) -> str:
    """What codes are in the graph already."""
    return c.real(op.inputs[0])


def rescale(c: Context, op: Op) -> str:
    """Another factor for each place of dimension 0."""
    q, factor = (c.real(v) for v in op.inputs)
    return c.g.op("Mul", q, c.column(factor, len(op.result.type.shape)))


def grad_scale(c: Context, op: Op) -> InGraph:
    """Numbers times a power of two, with its inverse."""
    g, s = (c.real(v) for v in op.inputs)
    return InGraph(c.g.op("Mul", g, s), c.g.op("Div", c.g.f32(1.0), s))


def normalize(c: Context, op: Op) -> InGraph:
    """Numbers in a unit that is not 0."""
    g, unit = (c.real(v) for v in op.inputs)
    return InGraph(c.g.op("Div", g, unit), unit)


def round_fixed(c: Context, op: Op) -> str:
    """To a multiple of a power of two."""
    steps = c.g.f32(2.0 ** (op.int_attr("bits") - 1))
    return c.g.op("Div", c.g.op("Round", c.g.op("Mul", c.real(op.inputs[0]), steps)), steps)


def extremes(c: Context, op: Op) -> tuple[str | None, ...]:
    """Of all numbers, or of each place of dimension 0."""
    kept, rank = len(op.result.type.shape), len(op.inputs[0].type.shape)
    x, axes = c.real(op.inputs[0]), c.g.ints(*range(kept, rank))
    return tuple(c.g.op(kind, x, axes, keepdims=0) for kind in ("ReduceMin", "ReduceMax"))


def amax(c: Context, op: Op) -> str:
    """The largest stored magnitude."""
    x = c.held(op.inputs[0])
    axes = c.g.ints(*range(len(op.inputs[0].type.shape)))
    return c.g.op("ReduceMax", c.g.op("Abs", x.numbers), axes, keepdims=0)


def sawb_clip(c: Context, op: Op) -> str:
    """c1 sqrt(mean w^2) - c2 mean |w|, or the largest."""
    kept, rank = len(op.result.type.shape), len(op.inputs[0].type.shape)
    size, axes = c.g.op("Abs", c.real(op.inputs[0])), c.g.ints(*range(kept, rank))
    square = c.g.op("ReduceMean", c.g.op("Mul", size, size), axes, keepdims=0)
    spread = c.g.op("Mul", c.g.op("Sqrt", square), c.g.f32(op.float_attr("c1")))
    middle = c.g.op("ReduceMean", size, axes, keepdims=0)
    found = c.g.op("Sub", spread, c.g.op("Mul", middle, c.g.f32(op.float_attr("c2"))))
    positive = c.g.op("Greater", found, c.g.f32(0.0))
    return c.g.op("Where", positive, found, c.g.op("ReduceMax", size, axes, keepdims=0))


def clip_region(c: Context, op: Op) -> str:
    """0 below, 1 inside, 2 above: a sum of two comparisons."""
    x, limit = (c.real(v) for v in op.inputs)
    if op.inputs[1].type.shape:
        limit = c.column(limit, len(op.result.type.shape))
    if op.bool_attr("signed"):
        inside = c.g.op("GreaterOrEqual", x, c.g.op("Mul", limit, c.g.f32(-1.0)))
    else:
        inside = c.g.op("Greater", x, c.g.f32(0.0))
    parts = (_single(c, m) for m in (inside, c.g.op("Greater", x, limit)))
    return c.g.op("Add", *parts)


def stored(c: Context, name: str, t: Tensor) -> InGraph:
    """A constant of codes: they themselves, and what makes numbers of them."""
    f, one, rank = t.type.format, np.ones((), np.float32), len(t.type.shape)
    scale = one if t.scale is None else t.scale
    if t.type.scale is Scale.SQUEEZED:
        numbers = _stored(c, name, t.data, one, f)
        alpha, beta = (c.g.constant(s.astype(np.float32)) for s in (scale[0], scale[1]))
        return InGraph(unsqueezed(c, numbers, alpha, beta))
    codes = t.data if f.exp or f.midrise else t.numbers.astype(np.int64)
    if t.type.scale.is_affine:
        offset = c.g.constant(np.asarray(scale[1], np.float32))
        placed = c.column(offset, rank) if scale[1].ndim else offset
        return InGraph(c.g.op("Add", _stored(c, name, codes, scale[0], f), placed))
    factor, per_channel = c.g.constant(np.asarray(scale, np.float32)), scale.ndim > 0
    if f.midrise:
        doubled = _stored(c, name, codes, np.asarray(2.0, np.float32), f)
        numbers = c.g.op("Sub", doubled, c.g.f32(float((1 << f.bits) - 1)))
        return apart(c, numbers, factor, rank, per_channel=per_channel)
    if element_of(f) in EIGHT_BITS:
        return _beyond_kernels(c, _stored(c, name, codes, one, f), factor, rank, per_channel)
    if not c.exact:
        return InGraph(_stored(c, name, codes, scale, f))
    return InGraph(_stored(c, name, codes, one, f), factor, per_channel)


EIGHT_BITS = (ElementType.INT8, ElementType.UINT8)


def _beyond_kernels(c: Context, codes: str, scale: str, rank: int, per_channel: bool) -> InGraph:
    """Codes of 8 bits with a Mul behind them, so that they are multiplied in f32.

    onnxruntime gives products of two DequantizeLinear of 8 bits to kernels that add pairs of
    products in 16 bits, and saturate, on CPUs without VNNI. Where the scale stays apart the Mul
    doubles the codes, which is exact.
    """
    if not c.exact:
        return InGraph(c.times_scale(InGraph(codes, scale, per_channel), rank))
    half = c.g.op("Mul", scale, c.g.f32(0.5))
    return InGraph(c.g.op("Mul", codes, c.g.f32(2.0)), half, per_channel)


def _stored(c: Context, name: str, codes: Array, scale: Array, f: Format) -> str:
    try:
        return c.dialect.stored(c.g, name, codes, scale, f)
    except Unwritable as what:
        c.refuse(str(what))


QUANTIZE: dict[str, Lower] = {
    "quantize": quantize,
    "quantize_bits": quantize,
    "quantize_affine": quantize_affine,
    "squeeze": squeeze,
    "cast": cast,
    "dequantize": dequantize,
    "rescale": rescale,
    "grad_scale": grad_scale,
    "normalize": normalize,
    "round_fixed": round_fixed,
    "extremes": extremes,
    "amax": amax,
    "sawb_clip": sawb_clip,
    "clip_region": clip_region,
}
