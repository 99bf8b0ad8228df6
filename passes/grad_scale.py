"""GradScale: a power of two for each layer brings its output gradient to the top of the format.

"Ultra-Low Precision 4-bit Training of Deep Neural Networks" (Sun et al., NeurIPS 2020), section 3.
The paper does not print the rule; both of these agree with what it says:

    rule      scale of this step                            passes over dY
    step      that of the step before, halved or doubled    one, together with the rounding
    instant   2^floor(log2(top / max |dY|))                 two: the maximum comes first

The first step takes the instant rule in either case. ``per=channel`` is an answer to the reviewers:
see ``channel_scales.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.formats import FP4_EVEN
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.channel_scales import ChannelScales
from .parts.gradients import plain_gradient
from .parts.names import part
from .parts.options import require
from .parts.select import EXEMPT, Attention, quantized


@dataclass(frozen=True, eq=False, slots=True)
class Scaled:
    """The values of one layer: the scale from step to step, in this step, and what it makes."""

    layer: str
    state: Value
    scale: Value
    gradient: Value
    largest: Value
    next: Value


def grad_scale(
    program: Program,
    *,
    gradscale: Literal["step", "instant"] = "step",
    top: float = FP4_EVEN.max,
    per: Literal["layer", "channel"] = "layer",
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Let both gradient products of each layer read dY times the layer's scale.

    The scale is the state ``LAYER.grad_scale``, 0 until the first step sets it; ``per=channel``
    makes it a number for each channel of dY. ``top`` is the largest level of the format that
    follows.
    """
    require(top > 0, f"top={top:g} must be positive")
    chosen, taken = quantized(program, exempt, attention), program.names()
    instant = gradscale == "instant"
    if per == "channel":
        work = ChannelScales(chosen, top, instant, taken)
        return work.finish(program.rewrite(work.rule, by="grad_scale"), step=not instant)
    made: dict[str, Scaled] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        g = plain_gradient(op, chosen)
        if g is None:
            return None
        ahead: tuple[Op, ...] = ()
        if op.origin not in made:
            made[op.origin] = _values(op.origin, g, taken)
            ahead = _scale(made[op.origin], g, top, instant)
        return (*ahead, replace(op, inputs=(made[op.origin].gradient, op.inputs[1])))

    return _carried(program.rewrite(rule, by="grad_scale"), tuple(made.values()), top, instant)


def _carried(program: Program, made: tuple[Scaled, ...], top: float, instant: bool) -> Program:
    """``program`` with the scales as state, and their next values."""
    out = program.with_state({it.state: 0.0 for it in made})
    if instant:
        return replace(out, next=(*out.next, *((it.state, it.scale) for it in made)))
    # A program without update region (a gradient alone) has no next step to prepare.
    if not any(r.name == "update" for r in out.regions):
        return out
    out = out.append("update", tuple(_step(it, top) for it in made))
    return replace(out, next=(*out.next, *((it.state, it.next) for it in made)))


def _values(layer: str, g: Value, taken: set[str]) -> Scaled:
    def scalar(name: str) -> Value:
        return Value(unused(part(layer, name), taken), SCALAR)

    gradient = TensorType(g.type.shape, g.type.format, Scale.POW2)
    return Scaled(
        layer,
        scalar("grad_scale"),
        scalar("grad_scale.now"),
        Value(unused(part(layer, "dys"), taken), gradient),
        scalar("dys.amax"),
        scalar("grad_scale.next"),
    )


def _scale(it: Scaled, g: Value, top: float, instant: bool) -> tuple[Op, ...]:
    options = attrs(top=top, always=instant)
    init = Op("grad_scale_init", (it.state, g), (it.scale,), options, it.layer)
    scale = Op("grad_scale", (g, it.scale), (it.gradient,), origin=it.layer)
    largest = Op("amax", (it.gradient,), (it.largest,), origin=it.layer)
    return (init, scale) if instant else (init, scale, largest)


def _step(it: Scaled, top: float) -> Op:
    inputs = (it.scale, it.largest)
    return Op("grad_scale_step", inputs, (it.next,), attrs(top=top), it.layer)
