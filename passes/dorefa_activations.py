"""DoReFa's activations: clipped to [0, 1], on 2^k evenly spaced levels.

"DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients" (Zhou
et al., 2016), section 2.4: the clip is the activation function; a ReLU ahead of it changes nothing.

    tensor            codes                     dx = g where
    never negative    rint(n min(max(x, 0), 1)), n = 2^k - 1            0 <= x <= 1
    other             symmetric, n = 2^(k-1) - 1                        |x| <= 1

The paper has no tensors of the second kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.formats import INTS, UINT2, UINTS
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import FORWARD_GEMMS, GEMMS
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.data import data_of, gradient_made, named, with_codes
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import EXEMPT, Attention, float_layers, quantized
from .parts.sign import never_negative

UNTOUCHED = 32


@dataclass(frozen=True, eq=False, slots=True)
class DorefaActivation:
    """A tensor to be quantized, with the values that it gets."""

    layer: str
    x: Value
    one: Value
    codes: Value
    region: Value
    signed: bool


@placed(makes=Makes.CODES)
def dorefa_activations(
    program: Program,
    *,
    a_bits: Literal[1, 2, 3, 4, 5, 6, 7, 8, 32] = 8,
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Quantize the data of each layer to ``a_bits`` bits; 32 leaves data as they are."""
    if a_bits == UNTOUCHED:
        return program.done("dorefa_activations")
    taken, gemms = program.names(), float_layers(program, quantized(program, exempt, attention))
    plan = _plan(program, gemms, a_bits, taken)
    codes, done = {x: it.codes for x, it in plan.items()}, set[Value]()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        gemm, forward = gemms.get(op.origin), op.kind in FORWARD_GEMMS
        if gemm is None or op.kind not in GEMMS or (forward and region.name != "forward"):
            return None
        ahead: list[Op] = []
        for x in data_of(gemm) if forward else ():
            ahead += _quantize(plan[x]) if x not in done else ()
            done.add(x)
        op, place = replace(op, inputs=with_codes(op, gemm, codes)), gradient_made(op)
        if place is None:
            return (*ahead, op)
        return _gradient(op, plan[gemm.inputs[place]], named(gemm, place, "dclip"), taken)

    return program.rewrite(rule, by="dorefa_activations")


def _plan(
    program: Program, gemms: dict[str, Op], bits: int, taken: set[str]
) -> dict[Value, DorefaActivation]:
    positive, plan = never_negative(program), dict[Value, DorefaActivation]()
    read = ((op, place, x) for op in gemms.values() for place, x in enumerate(data_of(op)))
    for op, place, x in read:
        layer = op.origin
        if x in plan:
            continue
        signed = x not in positive
        if signed and bits == 1:
            raise RecipeError(
                f"layer {layer} reads numbers below 0, which a_bits=1 has no level for; "
                f"take a_bits=2 or more, or name it in exempt"
            )
        codes = TensorType(x.type.shape, (INTS if signed else UINTS)[bits], Scale.TENSOR)
        one, xq, mask = (
            Value(unused(part(layer, named(op, place, name)), taken), type_)
            for name, type_ in (
                ("clip", SCALAR),
                ("xq", codes),
                ("region", TensorType(x.type.shape, UINT2)),
            )
        )
        plan[x] = DorefaActivation(layer, x, one, xq, mask, signed)
    return plan


def _quantize(it: DorefaActivation) -> tuple[Op, ...]:
    return (
        Op("constant", (), (it.one,), attrs(value=1.0), it.layer),
        Op("quantize", (it.x, it.one), (it.codes,), origin=it.layer),
        Op("clip_region", (it.x, it.one), (it.region,), attrs(signed=it.signed), it.layer),
    )


def _gradient(op: Op, it: DorefaActivation, name: str, taken: set[str]) -> tuple[Op, Op]:
    """The masked gradient takes the old name, and with it the readers."""
    raw = Value(unused(f"{op.result.name}q", taken), op.result.type)
    # The clip is fixed: nothing reads its gradient.
    unread = Value(unused(part(op.origin, name), taken), SCALAR)
    results = (Value(op.result.name, op.result.type), unread)
    masked = Op("pact_grad", (raw, it.region), results, attrs(signed=it.signed), op.origin)
    return replace(op, results=(raw,)), masked
