"""Scales of blocks: which number has which, and powers of two by OCP's and others' rules.

"OCP Microscaling Formats (MX) Specification" 1.0, section 6.3 (floor); ceil, rceil and even as
torchao and Transformer Engine name them.
"""

from __future__ import annotations

from dataclasses import replace
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.formats import E8M0, FP8_143, Format
from ...compiler.types import LEAST_INNER, LEAST_OUTER, BlockScale, Shape
from .rounding import decode, encode

Array = NDArray[Any]
LEAST, MOST = E8M0.levels()[0], E8M0.levels()[-1]
GREATEST = np.finfo(np.float32).max
NORMAL = 2.0**-126  # the least f32 whose exponent is its own


def largest(x: Array, scale: BlockScale) -> Array:
    """The largest magnitude of each block, one for each place of the grid; NaN stays."""
    cut = _cut(np.abs(x), scale)
    return np.asarray(cut.max(axis=tuple(range(1, cut.ndim, 2))))


def _cut(x: Array, scale: BlockScale) -> Array:
    """For each dimension a number of blocks and a place in them, filled up with 0."""
    padded = np.pad(x, [(0, -n % b) for n, b in zip(x.shape, scale.block, strict=True)])
    pairs = zip(scale.grid(x.shape), scale.block, strict=True)
    return np.asarray(padded.reshape([n for pair in pairs for n in pair]))


def spread(s: Array, scale: BlockScale, shape: Shape) -> Array:
    """The scale of its block at each place of a tensor."""
    for axis, times in enumerate(scale.block):
        s = s.repeat(times, axis=axis)
    return s[tuple(slice(n) for n in shape)]


def power_scale(m: Array, to: Format, rule: str) -> Array:
    """The scale of blocks whose largest magnitudes are ``m``, as ``block_scale`` says."""
    m = np.abs(m.astype(np.float32))
    with np.errstate(invalid="ignore", over="ignore"):
        match rule:
            case "rceil":
                e = _ceil(m * (np.float32(1) / np.float32(to.max)))
            case "ceil":
                e = _ceil(np.maximum(m, np.float32(NORMAL))) - top_exponent(to)
            case "even":
                e = _floor(_half_up(m, mantissa_bits(to))) - top_exponent(to)
            case _:
                e = _floor(m) - top_exponent(to)
        made = np.clip(np.ldexp(1.0, e.astype(np.int64)), LEAST, MOST)
    return np.where(np.isfinite(m), made, np.nan).astype(np.float32)


def fit_scale(m: Array, to: Format) -> Array:
    """The scale by which a largest magnitude ``m`` becomes the largest number."""
    s = m / np.float32(to.max)
    return np.where(np.isfinite(m), np.where(s == 0, np.float32(1), s), np.float32(np.nan))


def outer_encoding(m: Array, to: Format, top: float) -> Array:
    """What a tensor of largest magnitude ``m`` is multiplied by, so that it reaches ``top``."""
    with np.errstate(divide="ignore", over="ignore"):
        e = np.fmin(np.float32(top * to.max) / m, GREATEST)
    return np.where((m > 0) & np.isfinite(m) & (e > 0), e, np.float32(1)).astype(np.float32)


def inner_scale(b: Array, e: Array, to: Format, headroom: float) -> Array:
    """The scales of blocks of largest magnitudes ``b``, multiples of the tensor's."""
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = np.minimum(b * (e * np.float32(headroom / to.max)), np.float32(FP8_143.max))
    return np.where(np.isfinite(b), decode(encode(wanted, FP8_143), FP8_143), np.float32(np.nan))


def inner_factor(s: Array, e: Array) -> Array:
    """What the numbers of a block are multiplied by."""
    one = np.float32(1)
    with np.errstate(divide="ignore", over="ignore"):
        factor = one / (s * (one / e))
    return np.where(np.isnan(factor), factor, np.fmin(factor, GREATEST))


def nested_scales(x: Array, scale: BlockScale, to: Format, headroom: float) -> tuple[Array, Array]:
    """The scales of larger blocks and those of blocks, multiples of them, of each grid."""
    assert scale.outer, scale
    wide = replace(scale, block=scale.outer)
    per = tuple(n // b for n, b in zip(scale.outer, scale.block, strict=True))
    b = largest(x, scale)
    m = fit_scale(fit_scale(largest(x, wide), FP8_143), to)
    outer = np.where(np.isnan(m), m, np.maximum(m, np.float32(LEAST_OUTER)))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = (b / spread(outer, replace(scale, block=per), b.shape)) * np.float32(
            headroom / to.max
        )
    floored = np.where(np.isnan(wanted), wanted, np.maximum(wanted, np.float32(LEAST_INNER)))
    return outer.astype(np.float32), decode(encode(floored, FP8_143), FP8_143)


def rounding_error(x: Array, s: Array, e: Array, scale: BlockScale, to: Format) -> Array:
    """What rounding by scales ``s`` leaves of each block: the sum of |x - rounded|."""
    with np.errstate(invalid="ignore", over="ignore"):
        codes = encode(x * spread(inner_factor(s, e), scale, x.shape), to)
        rounded = decode(codes, to) * spread(s, scale, x.shape) * (np.float32(1) / e)
        cut = _cut(np.abs(rounded - x).astype(np.float64), scale)
    return np.asarray(cut.sum(axis=tuple(range(1, cut.ndim, 2))), np.float32)


def correction(
    x: Array, q: Array, s: Array, outer: Array, blocks: BlockScale, group: BlockScale, stored: bool
) -> Array:
    """For each block what makes the numbers ``q`` of its group as long along ``x`` as ``x`` is.

    ``s`` are the scales of blocks, with ``outer`` that of the tensor.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        t, r = x / outer, q * spread(s, blocks, x.shape)
        if stored:
            by = spread(np.where(s == 0, np.float32(1), s), blocks, x.shape)
            t, r = t / by, r / by
        over, under = (
            cut.sum(axis=tuple(range(1, cut.ndim, 2))).astype(np.float32)
            for cut in (_cut((t * v).astype(np.float64), group) for v in (t, r))
        )
        factor = np.where(under == 0, np.float32(1), over / under)
    step = tuple(g // b for g, b in zip(group.block, blocks.block, strict=True))
    return spread(factor, BlockScale(step, FP8_143), s.shape)


def top_exponent(f: Format) -> int:
    """floor(log2) of the largest number."""
    return frexp(f.max)[1] - 1


def mantissa_bits(f: Format) -> int:
    """Bits behind the leading one of a number near the top; of integers those of the largest."""
    return f.man if f.exp else f.bits - 2


def _floor(m: Array) -> Array:
    """floor(log2 m), -127 below the normal numbers."""
    return np.where(m < NORMAL, -127, np.frexp(np.where(np.isfinite(m), m, 1))[1] - 1)


def _ceil(m: Array) -> Array:
    """ceil(log2 m), at least -127."""
    fraction, e = np.frexp(np.where(np.isfinite(m) & (m > 0), m, LEAST))
    return np.maximum(np.where(fraction == 0.5, e - 1, e), -127)


def _half_up(m: Array, bits: int) -> Array:
    """``m`` and half a unit of a mantissa of so many bits, where it is normal."""
    wide = m.astype(np.float64)
    half = np.ldexp(0.5, (_floor(m) - bits).astype(np.int64))
    return np.where(m < NORMAL, wide, wide + half)
