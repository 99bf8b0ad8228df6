"""Reference of the quantizers: clips, codes, masks, gradient scales, roundings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.errors import VerifyError
from ...compiler.formats import HALF_FLOATS, Format
from ...compiler.ir import Op
from ..numbers.rounding import Tie, Underflow, encode_log, encode_stochastic
from ..numbers.tensor import Array, Tensor, column, dtype_of
from ..numbers.threefry import uniform
from .frame import Meaning, on_numbers, wide

# Gradient scales stay where their inverse and the scaled numbers are normal f32 numbers.
LEAST_SCALE, GREATEST_SCALE = np.float32(2.0**-100), np.float32(2.0**100)
LEAST_LOSS_SCALE = np.float32(2.0**-126)


def sawb_clip(op: Op, w: Array) -> Array:
    """For the tensor, or for each channel of dimension 0 where the result has one clip each."""
    size = np.abs(wide(w))
    dims = tuple(range(len(op.result.type.shape), w.ndim))
    spread = np.sqrt(np.square(size).mean(axis=dims))
    clip = op.float_attr("c1") * spread - op.float_attr("c2") * size.mean(axis=dims)
    return np.asarray(np.where(clip > 0, clip, size.max(axis=dims)))


def quantize(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """NaN counts as the lower limit; the scale is 0 where the clip is. Third operand: bits."""
    x, clip, *bits = (t.numbers for t in inputs)
    type_ = op.result.type
    f = type_.format
    assert f.is_integer, f"{op.kind} makes integers, not {f}"
    top = (1 << f.bits) - 1 if f.midrise else int(f.max)
    sign = int(f.signed and not f.midrise)
    n = top if not bits else (1 << int(whole_bits(bits[0], f.bits, sign)) - sign) - 1
    codes, scale = _clipped(f, x, clip, np.float32(n))
    if f.midrise:
        codes += (top - n) // 2
    return (Tensor(type_, (codes & ((1 << f.bits) - 1)).astype(dtype_of(f)), scale),)


def whole_bits(bits: Array, most: int, signs: int = 0) -> Array:
    """Whole numbers of bits: at least one beside the sign (so does NaN), at most ``most``."""
    least = np.float32(1 + signs)
    return np.fmin(np.fmax(bits, least), np.float32(most)).astype(np.int32)


def _clipped(f: Format, x: Array, clip: Array, n: np.float32) -> tuple[Array, Array]:
    """Whole numbers between -n, or 0, and n, a midrise grid's counted from 0; and their scale.

    Where a format ends at another number than -n, they do.
    """
    limit = column(clip, x.ndim)
    least, most = f.ends or (-int(f.signed), 1)
    low = limit * np.float32(least / most)
    z = np.fmin(np.fmax(x, low), limit) * (n / limit)
    if f.midrise:
        z = (z + n) * np.float32(0.5)
    # A midrise code counts the levels; the others are the number itself in two's complement.
    return np.nan_to_num(np.rint(z)).astype(np.int32), np.asarray(clip / n, np.float32)


def extremes(op: Op, x: Array) -> tuple[Array, Array]:
    """NaN where any is."""
    dims = tuple(range(len(op.result.type.shape), x.ndim))
    return x.min(axis=dims), x.max(axis=dims)


LEAST_STEP = np.float32(1e-8)


def quantize_affine(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """NaN counts as the lower limit. With a seed the rounding is stochastic."""
    x, low, high, bits, *noise = (t.numbers for t in inputs)
    type_ = op.result.type
    assert type_.format.is_integer and not type_.format.signed, f"affine codes in {type_.format}"
    n = ((1 << whole_bits(bits, type_.format.bits)) - 1).astype(np.float32)
    step = np.fmax((high - low) / n, LEAST_STEP)
    z = (x - column(low, x.ndim)) / column(step, x.ndim)
    if noise:
        u = uniform(int(noise[0]), int(noise[1]), op.int_attr("salt"), type_.shape)
        z = z + (u - np.float32(0.5))
    codes = np.rint(np.fmin(np.fmax(z, np.float32(0)), column(n, x.ndim))).astype(
        dtype_of(type_.format)
    )
    return (Tensor(type_, codes, np.stack([step, low])),)


def clip_region(op: Op, x: Array, clip: Array) -> Array:
    """0 below, 1 inside, 2 above."""
    limit = column(clip, x.ndim)
    below = x < -limit if op.bool_attr("signed") else x <= 0
    return np.where(x > limit, 2, np.where(below, 0, 1))


def pact_grad(op: Op, g: Array, m: Array) -> tuple[Array, ...]:
    """The sum is in float64."""
    signed = op.bool_attr("signed")
    dx = np.where(m == 1 if signed else m != 2, g, np.float32(0))
    dclip = wide(g)[m == 2].sum()
    return dx, dclip - wide(g)[m == 0].sum() if signed else dclip


def pact_plus_grad(op: Op, g: Array, x: Array, clip: Array) -> tuple[Array, ...]:
    """The rounding error inside counts too; ``z = x * (top / clip)`` in f32, sums in float64."""
    m = clip_region(op, x, clip)
    dx, dclip = pact_grad(op, g, m)
    top = op.int_attr("top")
    z = x * (np.float32(top) / column(clip, x.ndim))
    error = (wide(np.rint(z)) - wide(z)) / top
    return dx, dclip + (wide(g) * error)[m == 1].sum()


def grad_scale_init(op: Op, s: Array, g: Array) -> Array:
    """A power of two, kept in 2^-100 .. 2^100; ``s`` (or 1) where the largest |g| is no number."""
    if s != 0 and not op.bool_attr("always"):
        return s
    largest = float(np.max(np.abs(g)))
    if not 0 < largest < np.inf:
        return np.where(s != 0, s, np.float32(1))
    # 2^floor(log2(v)) without a logarithm: frexp gives v = m 2^e with m in [1/2, 1).
    _, exponent = np.frexp(op.float_attr("top") / largest)
    return np.asarray(np.clip(np.ldexp(1.0, int(exponent) - 1), LEAST_SCALE, GREATEST_SCALE))


def grad_scale(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Scales are powers of two, so that 1/s is exact."""
    g, s = (t.numbers for t in inputs)
    return (Tensor.from_numbers(op.result.type, g * s, np.float32(1) / s),)


def normalize(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The scale is any number, so the stored numbers are rounded."""
    g, unit = (t.numbers for t in inputs)
    numbers = g / unit if unit != 0 else np.zeros_like(g)
    return (Tensor.from_numbers(op.result.type, numbers, unit),)


def amax(op: Op, g: Array) -> Array:
    """NaN where any is."""
    return np.asarray(np.max(np.abs(g)))


def amax_first(op: Op, g: Array, s: Array) -> Array:
    """What only the first step reads."""
    return np.abs(g).max() if s == 0 else np.zeros((), np.float32)


def amax_init(op: Op, m: Array, g: Array) -> Array:
    """NaN where any is."""
    return m if m != 0 else amax(op, g)


def grad_scale_step(op: Op, s: Array, m: Array) -> Array:
    """NaN leaves the scale."""
    top = np.float32(op.float_attr("top"))
    grown = np.where((m > 0) & (m <= top / np.float32(2)), s * np.float32(2), s)
    made = np.where(m > top, s * np.float32(0.5), grown)
    return np.clip(made, LEAST_SCALE, GREATEST_SCALE)


def channel_scales(op: Op, s: Array, m: Array) -> tuple[Array, ...]:
    """Powers of two, as ``grad_scale_init`` makes one."""
    usable = (m > 0) & (m < np.inf)
    _, exponent = np.frexp(op.float_attr("top") / wide(np.where(usable, m, np.float32(1))))
    made = np.clip(np.ldexp(1.0, exponent - 1), LEAST_SCALE, GREATEST_SCALE)
    kept = np.where(s != 0, s, np.float32(1))
    fresh = np.where(usable, made, kept).astype(np.float32)
    now = fresh if op.bool_attr("always") else np.where(s != 0, s, fresh)
    return now, np.float32(1) / now


def rescale(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Exact where the factors are powers of two."""
    q, factor = inputs
    assert q.scale is not None
    return (Tensor(op.result.type, q.data, q.scale * factor.numbers),)


def loss_scale_step(op: Op, s: Array, good: Array, loss: Array, *x: Array) -> tuple[Array, ...]:
    """The rule of torch.amp's GradScaler; 2^-126 is the least scale whose inverse is finite.

    No scale of gradients makes a loss finite, so that such a step says nothing about it.
    """
    if not np.isfinite(loss):
        return s, good
    growth, backoff = (np.float32(op.float_attr(k)) for k in ("growth", "backoff"))
    if not all(np.isfinite(v).all() for v in x):
        return np.maximum(s * backoff, LEAST_LOSS_SCALE), np.zeros_like(good)
    if good + 1 != op.int_attr("interval"):
        return s, good + 1
    with np.errstate(over="ignore"):
        grown = s * growth
    return np.where(np.isfinite(grown), grown, s), np.zeros_like(good)


def round_log(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The scale stays."""
    (g,) = inputs
    tie, underflow = Tie(op.word_attr("tie")), Underflow(op.word_attr("underflow"))
    type_ = op.result.type
    codes = encode_log(g.numbers, type_.format, op.float_attr("up"), tie, underflow)
    return (Tensor(type_, codes, g.scale),)


def round_stochastic(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The scale stays; see ``encode_stochastic`` for the comparison."""
    g, seed, step = inputs
    type_ = op.result.type
    u = uniform(int(seed.data), int(step.data), op.int_attr("salt"), type_.shape)
    return (Tensor(type_, encode_stochastic(g.numbers, type_.format, u), g.scale),)


def round_flag(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The scale stays; NaN counts as infinity of its sign."""
    (g,) = inputs
    c = np.float32(1 << (op.int_attr("bits") - 1))
    x = g.numbers
    size = np.where(np.isnan(x), np.float32(np.inf), np.abs(x))
    large = c * np.minimum(np.rint(size / c), c - 1)
    level = np.copysign(np.where(size < c, np.rint(size), large), x)
    return (Tensor.from_numbers(op.result.type, level, g.scale),)


def round_float(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All in f32, exactly: the distances of a 16-bit float are powers of two."""
    x, seed, step = (t.numbers for t in inputs)
    to = HALF_FLOATS[op.word_attr("to")]
    u = uniform(int(seed), int(step), op.int_attr("salt"), op.result.type.shape)
    size = np.fmin(np.abs(x), np.float32(to.top))
    _, exponent = np.frexp(np.fmax(size, np.float32(to.normal)))
    gap = np.ldexp(np.float32(1), exponent - to.precision)
    low = np.floor(size / gap) * gap
    if not to.format.subnormals:
        tiny = size < np.float32(to.least)
        low, gap = np.where(tiny, 0, low), np.where(tiny, np.float32(to.least), gap)
    made = low + np.where(u * gap < size - low, gap, np.float32(0))
    rounded = np.copysign(np.where(np.isnan(x), x, made), x)
    return (Tensor.from_numbers(op.result.type, rounded),)


def round_fixed(op: Op, x: Array) -> Array:
    """In f32; NaN and infinity stay."""
    steps = np.float32(2.0 ** (op.int_attr("bits") - 1))
    return np.asarray(np.rint(x * steps) / steps)


def cast(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The scale stays; a result with a scale made from a tensor without one gets 1."""
    (x,) = inputs
    type_ = op.result.type
    if x.scale is not None and type_.scale != x.type.scale:
        raise VerifyError(f"cast of {x.type} to {type_}: the scale must stay {x.type.scale.value}")
    return (Tensor.from_numbers(type_, x.numbers, x.scale),)


def dequantize(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Numbers times scale, plus the offset, in f32."""
    (q,) = inputs
    return (Tensor.from_numbers(op.result.type, q.dequantized()),)


QUANTIZE: dict[str, Meaning] = {
    "sawb_clip": on_numbers(sawb_clip),
    **dict.fromkeys(("quantize", "quantize_bits"), quantize),
    "extremes": on_numbers(extremes),
    "quantize_affine": quantize_affine,
    "quantize_affine_stochastic": quantize_affine,
    "clip_region": on_numbers(clip_region),
    "pact_grad": on_numbers(pact_grad),
    "pact_plus_grad": on_numbers(pact_plus_grad),
    "grad_scale_init": on_numbers(grad_scale_init),
    "grad_scale": grad_scale,
    "normalize": normalize,
    "amax": on_numbers(amax),
    "amax_first": on_numbers(amax_first),
    "amax_init": on_numbers(amax_init),
    "grad_scale_step": on_numbers(grad_scale_step),
    "channel_scales": on_numbers(channel_scales),
    "rescale": rescale,
    "loss_scale_step": on_numbers(loss_scale_step),
    "round_log": round_log,
    "round_stochastic": round_stochastic,
    "round_flag": round_flag,
    "round_fixed": on_numbers(round_fixed),
    "round_float": round_float,
    "cast": cast,
    "dequantize": dequantize,
}
