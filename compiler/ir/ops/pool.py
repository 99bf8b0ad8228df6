"""Pooling; ``where`` is the winner's place in its window, row by row (adaptive: in its plane)."""

from __future__ import annotations

from ..program import Op
from .definition import Extents, OpDef
from .signature import define
from .traits import Trait
from .windows import window

MAX = "{kernel: 2 ints >= 1, stride: 2 ints >= 1, padding: 2 ints >= 0, dilation: 2 ints >= 1}"
AVG = (
    "{kernel: 2 ints >= 1, stride: 2 ints >= 1, padding: 2 ints >= 0,"
    " count_include_pad: flag, divisor: int >= 0}"
)


def _pooled(op: Op, at: Extents) -> str:
    """Whether P and Q are the places of a window over H and W, or one more (torch's ceil_mode)."""
    kernel, stride, padding = (op.ints_attr(k) for k in ("kernel", "stride", "padding"))
    dilation = op.ints_attr("dilation") if "dilation" in op.attrs else (1, 1)
    sizes, made = at["H"] + at["W"], at["P"] + at["Q"]
    for i in range(2):
        least = window(sizes[i], kernel[i], stride[i], padding[i], dilation[i])
        if made[i] not in (least, least + 1) or made[i] < 1:
            return f"pooling of {sizes} gives {least} places, not {made}"
    return ""


def _filled(op: Op, at: Extents) -> str:
    sizes = at["H"] + at["W"] + at["P"] + at["Q"]
    return "" if min(sizes) > 0 else f"there is nothing to pool in {sizes}"


KEEPS, IMAGE, SIGN = Trait.KEEPS_CARRIER, Trait.IMAGE, Trait.KEEPS_SIGN
IN, OUT, WHERE = "float[N C H W]", "float[N C P Q]", "where[N C P Q]"

POOL: tuple[OpDef, ...] = (
    define(
        f"max_pool2d(x: {IN}) {MAX} -> y: {OUT}, where: {WHERE}",
        "first of equal maxima; -inf outside",
        KEEPS, IMAGE, SIGN, check=_pooled,
    ),
    define(
        f"max_pool2d_grad(g: {OUT}, where: {WHERE}) {MAX} -> dx: {IN}",
        "g at the winners, summed where windows overlap",
        KEEPS, IMAGE, check=_pooled,
    ),
    define(
        f"avg_pool2d(x: {IN}) {AVG} -> y: {OUT}",
        "divisor 0: the window's size",
        KEEPS, IMAGE, SIGN, check=_pooled,
    ),
    define(
        f"avg_pool2d_grad(g: {OUT}) {AVG} -> dx: {IN}",
        "its share of g at every element of a window",
        KEEPS, IMAGE, check=_pooled,
    ),
    define(
        f"adaptive_avg_pool2d(x: {IN}) -> y: {OUT}",
        "windows that cut the plane evenly, as torch cuts it",
        KEEPS, IMAGE, SIGN, check=_filled,
    ),
    define(
        f"adaptive_avg_pool2d_grad(g: {OUT}) -> dx: {IN}",
        "its share of g at every element of a window",
        KEEPS, IMAGE, check=_filled,
    ),
    define(
        f"adaptive_max_pool2d(x: {IN}) -> y: {OUT}, where: {WHERE}",
        "the first of the largest in the same windows",
        KEEPS, IMAGE, SIGN, check=_filled,
    ),
    define(
        f"adaptive_max_pool2d_grad(g: {OUT}, where: {WHERE}) -> dx: {IN}",
        "g at the winners",
        KEEPS, IMAGE, check=_filled,
    ),
)  # fmt: skip
