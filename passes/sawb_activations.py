"""SAWB for activations: a clip from the first two absolute moments of this step's tensor.

"Accurate Neural Training with 4-bit Matrix Multiplications at Standard Formats" (Chmiel et al.,
ICLR 2023), section 6: weights and activations in INT4 by SAWB, nearest. Coefficients and grids are
those of ``sawb_weights``.

    tensor           codes                    clip of training                  of prediction
    never negative   0 .. 2^b-1               c1 sqrt(mean x^2) - c2 mean |x|   that of the last
    other            -(2^(b-1)-1) .. the      the same                          training step
                     opposite
    shares           0 .. 2^b-1               max x: equal ones have no spread  the same

The gradient passes everywhere. ``luq_act_range=double`` is the authors' code: 0 .. 15 span twice
SAWB's clip, and -8 .. 15, where a tensor may be negative, are 23 steps of twice the clip / 23.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.formats import INT5_24, INTS, UINT4, UINTS
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import FORWARD_GEMMS, GEMMS
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.bounds import upper_bounds
from .parts.data import data_of, named, with_codes
from .parts.names import part
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import EXEMPT, Attention, float_layers, quantized
from .parts.sign import never_negative
from .sawb_weights import Coefficients, pair_of


@dataclass(frozen=True, eq=False, slots=True)
class SawbActivation:
    """A tensor to be quantized: the clip of the step before and of this one, and its codes.

    ``now`` is SAWB's clip ``moments``, or several times as much; of a ``share`` the largest number.
    """

    layer: str
    x: Value
    clip: Value
    moments: Value
    now: Value
    codes: Value
    share: bool

    def measure(self, pair: Coefficients) -> tuple[Op, ...]:
        """The ops that make ``now``."""
        if self.share:
            return (Op("amax", (self.x,), (self.now,), origin=self.layer),)
        how = attrs(c1=pair[0], c2=pair[1])
        clip = Op("sawb_clip", (self.x,), (self.moments,), how, self.layer)
        if self.now is self.moments:
            return (clip,)
        how = attrs(factor=STRETCH[self.codes.type.format])
        return clip, Op("scale", (self.moments,), (self.now,), how, self.layer)

    def quantize(self, pair: Coefficients | None) -> tuple[Op, ...]:
        """The ops that make its codes; in prediction, without coefficients, by the clip kept."""
        measured, clip = (self.measure(pair), self.now) if pair else ((), self.clip)
        return (*measured, Op("quantize", (self.x, clip), (self.codes,), origin=self.layer))


# The largest of a format's integers in SAWB's clips: 15 steps of 2 clip / 15, and of 2 clip / 23.
STRETCH = {UINT4: 2.0, INT5_24: 30 / 23}


@placed(makes=Makes.CODES)
def sawb_activations(
    program: Program,
    *,
    bits: Literal[2, 4, 7, 8] = 4,
    coefficients: Literal["sawb", "luq"] = "sawb",
    clip_init: float = 8.0,
    luq_act_range: Literal["clip", "double"] = "clip",
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Quantize the data of each layer to ``bits`` bits; readers of a tensor share its clip.

    The state ``LAYER.clip``, named after the first layer that reads the tensor, keeps the clip for
    prediction; before any training step it is ``clip_init``. Those of a product of activations are
    ``LAYER.a.clip`` and ``LAYER.b.clip``.
    """
    require(clip_init > 0, f"clip_init={clip_init:g} must be positive")
    pair, chosen = pair_of(INTS[bits], coefficients), quantized(program, exempt, attention)
    plan = _plan(program, chosen, bits, luq_act_range == "double")
    gemms, codes_of = float_layers(program, chosen), {x: it.codes for x, it in plan.items()}
    training, done = bool(program.region("backward").ops), set[Value]()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        gemm, forward = gemms.get(op.origin), op.kind in FORWARD_GEMMS
        if gemm is None or op.kind not in GEMMS or (forward and region.name != "forward"):
            return None
        ahead: list[Op] = []
        for x in data_of(gemm) if forward else ():
            if x not in done:
                done.add(x)
                ahead += plan[x].quantize(pair if training else None)
        return (*ahead, replace(op, inputs=with_codes(op, gemm, codes_of)))

    out = program.rewrite(rule, by="sawb_activations")
    out = out.with_state({it.clip: clip_init for it in plan.values()})
    return replace(out, next=(*out.next, *((a.clip, a.now) for a in plan.values() if training)))


def _plan(
    program: Program, chosen: frozenset[str], bits: int, double: bool
) -> dict[Value, SawbActivation]:
    positive, shares = never_negative(program), upper_bounds(program)
    taken = program.names()
    require(bits == 4 or not double, f"luq_act_range=double is of 4 bits; set bits=4, not {bits}")
    signed = INT5_24 if double else INTS[bits]
    plan: dict[Value, SawbActivation] = {}
    for layer, op in float_layers(program, chosen).items():
        for place, x in enumerate(data_of(op)):
            if x in plan:
                continue
            stretched = double and x not in shares
            names = ("clip", "clip.now", "clip.double")[: 3 if stretched else 2]
            clip, *made = (
                Value(unused(part(layer, named(op, place, name)), taken), SCALAR) for name in names
            )
            type_ = TensorType(x.type.shape, UINTS[bits] if x in positive else signed, Scale.TENSOR)
            codes = Value(unused(part(layer, named(op, place, "xq")), taken), type_)
            plan[x] = SawbActivation(layer, x, clip, made[0], made[-1], codes, x in shares)
    return plan
