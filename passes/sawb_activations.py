"""SAWB for activations: a clip from the first two absolute moments of this step's tensor.

"Accurate Neural Training with 4-bit Matrix Multiplications at Standard Formats" (Chmiel et al.,
ICLR 2023), section 6: weights and activations in INT4 by SAWB, nearest. Coefficients and grids are
those of ``sawb_weights``.

    tensor           codes                    clip of training                  of prediction
    never negative   0 .. 2^b-1               c1 sqrt(mean x^2) - c2 mean |x|   that of the last
    other            -(2^(b-1)-1) .. the      the same                          training step
                     opposite

The gradient passes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.formats import INTS, UINTS
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ops import FORWARD_GEMMS, WEIGHT_GRADS
from ..compiler.types import SCALAR, Scale, TensorType
from .names import part
from .options import require
from .sawb_weights import pair_of
from .select import EXEMPT, float_layers, quantized
from .sign import never_negative


@dataclass(frozen=True, eq=False, slots=True)
class Activation:
    """A tensor to be quantized: the clip of the step before and of this one, and its codes."""

    layer: str
    x: Value
    clip: Value
    now: Value
    codes: Value


def sawb_activations(
    program: Program,
    *,
    bits: Literal[2, 4, 7, 8] = 4,
    coefficients: Literal["sawb", "luq"] = "sawb",
    clip_init: float = 8.0,
    exempt: str = EXEMPT,
) -> Program:
    """Quantize the data operand of each layer to ``bits`` bits; readers of a tensor share its clip.

    The state ``LAYER.clip``, named after the first layer that reads the tensor, keeps the clip for
    prediction; before any training step it is ``clip_init``.
    """
    require(clip_init > 0, f"clip_init={clip_init:g} must be positive")
    c1, c2 = pair_of(INTS[bits], coefficients)
    chosen, taken = quantized(program, exempt), program.names()
    plan = _plan(program, chosen, bits, taken)
    of_layer = {n: plan[op.inputs[0]] for n, op in float_layers(program, chosen).items()}
    training = bool(program.region("backward").ops)
    done: set[Value] = set()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        it = of_layer.get(op.origin)
        if it is None:
            return None
        if op.kind in WEIGHT_GRADS:
            return (replace(op, inputs=(op.inputs[0], it.codes)),)
        if op.kind not in FORWARD_GEMMS or region.name != "forward":
            return None
        ahead: list[Op] = []
        if it.x not in done:
            done.add(it.x)
            clip = it.now if training else it.clip
            if training:
                ahead = [Op("sawb_clip", (it.x,), (clip,), attrs(c1=c1, c2=c2), it.layer)]
            ahead.append(Op("quantize", (it.x, clip), (it.codes,), origin=it.layer))
        return (*ahead, replace(op, inputs=(it.codes, op.inputs[1])))

    out = program.rewrite(rule, by="sawb_activations")
    out = out.with_state({it.clip: clip_init for it in plan.values()})
    pairs = tuple((it.clip, it.now) for it in plan.values()) if training else ()
    return replace(out, next=(*out.next, *pairs))


def _plan(
    program: Program, chosen: frozenset[str], bits: int, taken: set[str]
) -> dict[Value, Activation]:
    positive = never_negative(program)
    plan: dict[Value, Activation] = {}
    for layer, op in float_layers(program, chosen).items():
        x = op.inputs[0]
        if x in plan:
            continue
        format_ = UINTS[bits] if x in positive else INTS[bits]
        clip, now = (
            Value(unused(part(layer, name), taken), SCALAR) for name in ("clip", "clip.now")
        )
        codes = TensorType(x.type.shape, format_, Scale.TENSOR)
        plan[x] = Activation(layer, x, clip, now, Value(unused(part(layer, "xq"), taken), codes))
    return plan
