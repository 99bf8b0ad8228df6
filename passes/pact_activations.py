"""PACT: quantize activations up to a clip that training learns.

"PACT: Parameterized Clipping Activation for Quantized Neural Networks" (Choi et al., 2018),
section 3; ``pact_plus`` is the gradient of IBM's fms-model-optimizer (``PACTplus``).

    tensor            codes         dx = g where     dclip = sum of g over
    never negative    0 .. 2^b-1    x <= clip        x > clip
    other             symmetric     |x| <= clip      x > clip, minus that over x < -clip
    pact_plus         the same      the same         also g (rint(z) - z) / n inside, z = x n / clip

The clip starts at 8, or where a tensor ends if that is known to be below, as of softmax at 1. It is
trained like the optimizer's first group, but with its own weight decay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

from ..compiler.formats import INTS, UINT2, UINTS
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import FORWARD_GEMMS, GEMMS
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.bounds import magnitudes
from .parts.clip_update import clip_update
from .parts.data import data_of, gradient_made, named, with_codes
from .parts.names import part
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import EXEMPT, Attention, float_layers, quantized
from .parts.sign import never_negative


@dataclass(frozen=True, eq=False, slots=True)
class PactActivation:
    """A tensor to be quantized, with the values that it gets; ``gradients`` collects dclip."""

    layer: str
    x: Value
    clip: Value
    codes: Value
    regions: Value
    signed: bool
    start: float
    gradients: list[Value] = field(default_factory=list)


@placed(makes=Makes.CODES)
def pact_activations(
    program: Program,
    *,
    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4,
    clip_init: float = 8.0,
    pact_decay: float = 5e-4,
    pact_plus: bool = False,
    clip_floor: float = 1e-3,
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Quantize the data of each layer to ``bits`` bits; readers of a tensor share its clip.

    A clip is the state ``LAYER.clip``, named after the first layer that reads the tensor; those of
    a product of activations are ``LAYER.a.clip`` and ``LAYER.b.clip``. It starts at ``clip_init``
    or at the largest magnitude that the tensor can have, if that is known and less (1 for shares
    and for what an LSTM carries), decays by ``pact_decay`` and is kept at ``clip_floor`` or above.
    A tensor that needs no gradient (the program's input) keeps its first clip.
    """
    require(clip_init > 0, f"clip_init={clip_init:g} must be positive")
    require(clip_floor > 0, f"clip_floor={clip_floor:g} must be positive")
    require(pact_decay >= 0, f"pact_decay={pact_decay:g} must not be negative")
    chosen, taken = quantized(program, exempt, attention), program.names()
    plan = _plan(program, chosen, bits, clip_init, taken)
    work = _Pact(program, plan, chosen, pact_plus, taken)
    out = program.rewrite(work.rule, by="pact_activations")
    out = out.with_state({it.clip: it.start for it in plan.values()})
    for it in plan.values():
        out = clip_update(out, it.layer, it.clip, it.gradients, pact_decay, clip_floor)
    return out


class _Pact:
    """The rule of the pass, which knows the tensors that are quantized already."""

    def __init__(
        self,
        program: Program,
        plan: dict[Value, PactActivation],
        chosen: frozenset[str],
        plus: bool,
        taken: set[str],
    ) -> None:
        self.gemms, self.plan = float_layers(program, chosen), plan
        self.codes = {x: it.codes for x, it in plan.items()}
        self.plus, self.taken = plus, taken
        self.has_gradient = {x for _, op in program.ops() if (x := self.source(op))}
        self.done: set[Value] = set()

    def source(self, op: Op) -> Value | None:
        """The data whose gradient a product of a layer makes."""
        place, gemm = gradient_made(op), self.gemms.get(op.origin)
        return None if place is None or gemm is None else gemm.inputs[place]

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        gemm = self.gemms.get(op.origin)
        if gemm is None or op.kind not in GEMMS:
            return None
        if op.kind in FORWARD_GEMMS and region.name != "forward":
            return None
        ahead: tuple[Op, ...] = ()
        for x in data_of(gemm) if op.kind in FORWARD_GEMMS else ():
            if x not in self.done:
                self.done.add(x)
                masked = x in self.has_gradient and not self.plus
                ahead = (*ahead, *_quantize(self.plan[x], masked))
        op, place = replace(op, inputs=with_codes(op, gemm, self.codes)), gradient_made(op)
        if place is None:
            return (*ahead, op)
        it, dclip = self.plan[gemm.inputs[place]], named(gemm, place, "dclip")
        return _gradient(op, it, dclip, self.plus, self.taken)


def _plan(
    program: Program, chosen: frozenset[str], bits: int, clip_init: float, taken: set[str]
) -> dict[Value, PactActivation]:
    positive, bounds = never_negative(program), magnitudes(program)
    plan: dict[Value, PactActivation] = {}
    for layer, op in float_layers(program, chosen).items():
        for place, x in enumerate(data_of(op)):
            if x in plan:
                continue
            signed = x not in positive
            codes = TensorType(x.type.shape, (INTS if signed else UINTS)[bits], Scale.TENSOR)
            types = {"clip": SCALAR, "xq": codes, "region": TensorType(x.type.shape, UINT2)}
            clip, xq, mask = (
                Value(unused(part(layer, named(op, place, name)), taken), type_)
                for name, type_ in types.items()
            )
            start = min(clip_init, bounds.get(x, inf))
            plan[x] = PactActivation(layer, x, clip, xq, mask, signed, start)
    return plan


def _quantize(it: PactActivation, masked: bool) -> tuple[Op, ...]:
    quantize = Op("quantize", (it.x, it.clip), (it.codes,), origin=it.layer)
    if not masked:
        return (quantize,)
    signed = attrs(signed=it.signed)
    return (quantize, Op("clip_region", (it.x, it.clip), (it.regions,), signed, it.layer))


def _gradient(op: Op, it: PactActivation, name: str, plus: bool, taken: set[str]) -> tuple[Op, Op]:
    # The masked gradient takes the old name, and with it the readers.
    raw = Value(unused(f"{op.result.name}q", taken), op.result.type)
    dclip = Value(unused(part(op.origin, name), taken), SCALAR)
    it.gradients.append(dclip)
    results = (Value(op.result.name, op.result.type), dclip)
    if plus:
        top = int(it.codes.type.format.max)
        inputs, options = (raw, it.x, it.clip), attrs(top=top, signed=it.signed)
        masked = Op("pact_plus_grad", inputs, results, options, op.origin)
    else:
        masked = Op("pact_grad", (raw, it.regions), results, attrs(signed=it.signed), op.origin)
    return replace(op, results=(raw,)), masked
