"""Reference of numbers that are scaled block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.formats import FP8_143
from ...compiler.ir import Op
from ...compiler.ir.ops import FOUR_OVER_SIX
from ...compiler.spelled import format_of
from ...compiler.types import BlockScale
from ..numbers import blocks
from ..numbers.blocks import largest, power_scale, spread
from ..numbers.rounding import decode, encode_stochastic
from ..numbers.tensor import Array, Tensor, scales_of
from ..numbers.threefry import uniform
from .frame import Meaning, on_numbers


def scale_blocks(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Dividing by a power of two is exact."""
    (x,) = (t.numbers for t in inputs)
    made = op.result.type
    assert isinstance(made.scale, BlockScale), op
    s = block_scale(op, largest(x, made.scale))
    with np.errstate(invalid="ignore"):
        numbers = x / spread(s, made.scale, made.shape)
    return (Tensor.from_numbers(made, numbers, s),)


def fit_blocks(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Rounded once to f32, then to the elements."""
    (x,) = (t.numbers for t in inputs)
    made = op.result.type
    assert isinstance(made.scale, BlockScale), op
    s = fit_scale(op, largest(x, made.scale))
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = x / spread(s, made.scale, made.shape)
    return (Tensor.from_numbers(made, numbers, s),)


def fit_scale(op: Op, m: Array) -> Array:
    """Of largest magnitudes."""
    return blocks.fit_scale(m, format_of(op.word_attr("to")))


def scale_blocks_twice(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Multiplied by one factor a block."""
    x, m = (t.numbers for t in inputs)
    made = op.result.type
    assert isinstance(made.scale, BlockScale), op
    e = outer_encoding(op, m)
    b, to, room = largest(x, made.scale), format_of(op.word_attr("to")), op.float_attr("headroom")
    s = blocks.inner_scale(b, e, to, room)
    if op.bool_attr("four_over_six"):
        wide = blocks.inner_scale(b, e, to, FOUR_OVER_SIX * room)
        near, far = (blocks.rounding_error(x, t, e, made.scale, to) for t in (s, wide))
        s = np.where(far < near, wide, s)
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = x * spread(blocks.inner_factor(s, e), made.scale, made.shape)
    scales = np.concatenate([1 / e.reshape(1), s.ravel()])
    return (Tensor.from_numbers(made, numbers, scales),)


def scale_blocks_nested(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Divided by the product of both scales, which is rounded to f32."""
    (x,) = (t.dequantized() for t in inputs)
    made = op.result.type
    assert isinstance(made.scale, BlockScale) and made.scale.outer, op
    to, room = format_of(op.word_attr("to")), op.float_attr("headroom")
    outer, s = blocks.nested_scales(x, made.scale, to, room)
    scales = np.concatenate([outer.ravel(), s.ravel()])
    with np.errstate(invalid="ignore", over="ignore"):
        both = np.multiply(*scales_of(made, scales))
        return (Tensor.from_numbers(made, x / both, scales),)


def correct_scales(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Products in f32, sums in f64."""
    q, x, seed, step = inputs
    scale = op.result.type.scale
    assert isinstance(scale, BlockScale) and q.scale is not None, op
    outer, s = q.scale[0], q.scale[1:].reshape(scale.grid(x.type.shape))
    along, size = op.int_attr("dim"), op.int_attr("group")
    block = tuple(size if d == along else 1 for d in range(len(scale.block)))
    group, stored = BlockScale(block, FP8_143), op.word_attr("by") == "stored"
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = s * blocks.correction(x.numbers, q.numbers, s, outer, scale, group, stored)
    u = uniform(int(seed.data), int(step.data), op.int_attr("salt"), s.shape)
    s = decode(encode_stochastic(wanted, FP8_143, u), FP8_143)
    scales = np.concatenate([q.scale[:1], s.ravel()])
    return (Tensor.from_numbers(op.result.type, q.numbers, scales),)


def outer_encoding(op: Op, m: Array) -> Array:
    """Of a tensor's largest magnitude."""
    return blocks.outer_encoding(m, format_of(op.word_attr("to")), op.float_attr("top"))


def inner_scale(op: Op, b: Array, e: Array) -> Array:
    """Of blocks' largest magnitudes."""
    to, headroom = format_of(op.word_attr("to")), op.float_attr("headroom")
    return blocks.inner_scale(b, e, to, headroom)


def inner_factor(op: Op, s: Array, e: Array) -> Array:
    """Of blocks' scales."""
    return blocks.inner_factor(s, e)


def block_numbers(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Exact in f32."""
    (q,) = inputs
    assert q.scale is not None, q.type
    _, each = scales_of(q.type, q.scale)
    return (Tensor.from_numbers(op.result.type, q.numbers * each),)


def outer_scale(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The first of the scales."""
    (q,) = inputs
    assert q.scale is not None, q.type
    outer, _ = scales_of(q.type, q.scale)
    return (Tensor.from_numbers(op.result.type, outer),)


def block_scale(op: Op, m: Array) -> Array:
    """Of largest magnitudes."""
    return power_scale(m, format_of(op.word_attr("to")), op.word_attr("rule"))


BLOCKS: dict[str, Meaning] = {
    "scale_blocks": scale_blocks,
    "fit_blocks": fit_blocks,
    "fit_scale": on_numbers(fit_scale),
    "scale_blocks_twice": scale_blocks_twice,
    "scale_blocks_nested": scale_blocks_nested,
    "correct_scales": correct_scales,
    "block_numbers": block_numbers,
    "outer_scale": outer_scale,
    "outer_encoding": on_numbers(outer_encoding),
    "inner_scale": on_numbers(inner_scale),
    "inner_factor": on_numbers(inner_factor),
    "block_scale": on_numbers(block_scale),
}
