"""DoReFa's gradients: for each sample 2^k levels up to its largest size, with noise.

"DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients" (Zhou
et al., 2016), section 2.5.

    m = max |dY| of the sample       n = 2^k - 1       u uniform in [0, 1)
    c = rint(n (dY / 2m + 1/2) + u - 1/2)              dYq = 2m (c / n - 1/2)

That is a grid with an offset: lowest number -m, step 2m/n, at least 1e-8. A sample of zeros stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import F32, UINTS
from ..compiler.ir import Attr, Op, Program, Region, Value, attrs, unused
from ..compiler.types import Scale, TensorType
from .parts.draws import seed_and_step, with_seed
from .parts.gradients import plain_gradient
from .parts.names import part, salt_of
from .parts.order import Makes, placed
from .parts.select import EXEMPT, Attention, quantized

UNTOUCHED = 32


@placed(makes=Makes.CODES)
def dorefa_gradients(
    program: Program,
    *,
    g_bits: Literal[1, 2, 3, 4, 5, 6, 7, 8, 32] = 8,
    g_rounding: Literal["noise", "nearest"] = "noise",
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Let both gradient products of each layer read dY in ``g_bits`` bits; 32 leaves it as it is.

    Dimension 0 of dY is that of the samples, or of the matrices of a product of activations.
    ``nearest`` leaves the noise out.
    """
    if g_bits == UNTOUCHED:
        return program.done("dorefa_gradients")
    draws = seed_and_step(program, "g_rounding=noise") if g_rounding == "noise" else ()
    chosen, taken = quantized(program, exempt, attention), program.names()
    codes: dict[str, Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        g = plain_gradient(op, chosen)
        if g is None:
            return None
        ahead: tuple[Op, ...] = ()
        if op.origin not in codes:
            ahead = _quantize(op.origin, g, g_bits, draws, taken)
            codes[op.origin] = ahead[-1].result
        return (*ahead, replace(op, inputs=(codes[op.origin], op.inputs[1])))

    return with_seed(program.rewrite(rule, by="dorefa_gradients"), draws, bool(codes))


def _quantize(
    layer: str, g: Value, bits: int, draws: tuple[Value, ...], taken: set[str]
) -> tuple[Op, ...]:
    each, ops = TensorType(g.type.shape[:1], F32), list[Op]()

    def new(name: str, type_: TensorType = each) -> Value:
        return Value(unused(part(layer, f"dy.{name}"), taken), type_)

    def op(kind: str, made: Value, *inputs: Value, **options: Attr) -> Value:
        ops.append(Op(kind, inputs, (made,), attrs(**options), layer))
        return made

    least, largest, number = new("least"), new("largest"), new("bits", TensorType((), F32))
    ops.append(Op("extremes", (g,), (least, largest), origin=layer))
    high = op("maximum", new("high"), op("scale", new("least.size"), least, factor=-1.0), largest)
    low = op("scale", new("low"), high, factor=-1.0)
    op("constant", number, value=float(bits))
    q = Value(
        unused(part(layer, "dyq"), taken),
        TensorType(g.type.shape, UINTS[bits], Scale.AFFINE_CHANNEL),
    )
    if draws:
        op("quantize_affine_stochastic", q, g, low, high, number, *draws, salt=salt_of(q.name))
    else:
        op("quantize_affine", q, g, low, high, number)
    return tuple(ops)
