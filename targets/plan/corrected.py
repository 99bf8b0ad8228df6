"""Scales of blocks that are corrected and rounded by chance, as primitive ops.

y = correct_scales(q, x)    sums of x x and of x q over each group, in multiples of the tensor's
                            scale; scales times their ratio; round_stochastic of these
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.formats import FP8_143
from ...compiler.ir import Op, Value, attrs, unused
from ...compiler.types import BlockScale, Scale, TensorType
from .composition import Composition
from .cut import Cut, cut_up, spread


@dataclass(frozen=True, slots=True)
class ScaledCodes:
    """Codes, the codes of their blocks' scales, and the scale of the tensor."""

    numbers: Value
    scales: Value
    outer: Value


def corrected(to: Composition, op: Op, q: ScaledCodes) -> Value:
    """The codes of the corrected scales."""
    _, x, *drawn = op.inputs
    shape, scale, grid = x.type.shape, op.result.type.scale, q.scales.type.shape
    assert isinstance(scale, BlockScale), op
    cut = Cut.of(scale, shape)
    s = to("dequantize", "s", q.scales, shape=grid)
    wide = spread(to, s, cut, shape)
    t = to("div", "x", x, to.wide("outer", q.outer, shape), shape=shape)
    r = to("mul", "q", to("dequantize", "q", q.numbers, shape=shape), wide, shape=shape)
    if op.word_attr("by") == "stored":
        none = to("compare_to", "none", s, shape=grid, relation="eq", value=0.0)
        ones = to("constant", "ones", shape=grid, value=1.0)
        by = spread(to, to("where", "by", none, ones, s, shape=grid), cut, shape)
        t, r = (to("div", "stored", v, by, shape=shape) for v in (t, r))
    factor = _ratio(to, op, t, r)
    dim = op.int_attr("dim")
    many = op.int_attr("group") // scale.block[dim]
    step = tuple(many if d == dim else 1 for d in range(len(grid)))
    factor = spread(to, factor, Cut.of(BlockScale(step, FP8_143), grid), grid)
    wanted = to("mul", "wanted", s, factor, shape=grid)
    one = to("constant", "one", shape=(), value=1.0)
    plain = to("grad_scale", "plain", wanted, one, shape=grid, scaled=Scale.POW2)
    made = TensorType(grid, FP8_143, Scale.POW2)
    made_scales = Value(unused(f"{op.result.name}.scales", to.taken), made)
    how = attrs(salt=op.int_attr("salt"))
    to.made.append(Op("round_stochastic", (plain, *drawn), (made_scales,), how, op.origin))
    return made_scales


def _ratio(to: Composition, op: Op, t: Value, r: Value) -> Value:
    """Of each group the sum of t t over that of t r."""
    dim, size, shape = op.int_attr("dim"), op.int_attr("group"), t.type.shape
    block = tuple(size if d == dim else 1 for d in range(len(shape)))
    group = Cut.of(BlockScale(block, FP8_143), shape)
    over, under = (_sums(to, to("mul", "product", t, v, shape=shape), group) for v in (t, r))
    none = to("compare_to", "nothing", under, shape=group.grid, relation="eq", value=0.0)
    ones = to("constant", "ones", shape=group.grid, value=1.0)
    ratio = to("div", "ratio", over, under, shape=group.grid)
    return to("where", "factor", none, ones, ratio, shape=group.grid)


def _sums(to: Composition, x: Value, group: Cut) -> Value:
    x = cut_up(to, x, group)
    if not group.within:
        return x
    return to("sum", "sums", x, shape=group.grid, dims=group.within, keepdim=False)
