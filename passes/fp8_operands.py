"""FP8 operands: weights and activations in one 8-bit float format, gradients in another.

"Hybrid 8-bit Floating Point (HFP8) Training and Inference for Deep Neural Networks" (Sun et al.,
NeurIPS 2019), section 3; with ``fwd_format=152`` "Training Deep Neural Networks with 8-bit Floating
Point Numbers" (Wang et al., NeurIPS 2018), section 3.

    operand                            format          why
    weight, activation (all products)  1-4-3           the forward product wants mantissa
    dY (dX and dW)                     1-5-2           the backward products want range
    exempt layers                      the carrier

Numbers are rounded to the nearest, ties to even, and saturate; nothing is scaled but the loss. The
readings of 1-4-3 differ in the exponent bias, in whether the all-ones code is a number, and in
subnormals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import FORMATS, FP8_152, FP8_152_IBM, Format
from ..compiler.ir import Op, Program, Region, Value, unused
from ..compiler.ir.ops import GEMMS, GRADIENT_PRODUCTS
from ..compiler.types import Scale, TensorType
from .parts.data import roles_of
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import Attention, quantized


@placed(makes=Makes.CODES)
def fp8_operands(
    program: Program,
    *,
    fwd_format: Literal["143", "152"] = "143",
    hfp8_fwd_bias: Literal[11, 7] = 11,
    hfp8_fwd_max: Literal[30, 28] = 30,
    fp8_subnormals: bool = False,
    exempt: str = "first,last",
    attention: Attention = "quantize",
) -> Program:
    """Cast what the products of all layers but the exempt ones read.

    ``hfp8_fwd_max`` is the top for bias 11: 28 where the all-ones code stands for NaN; with bias 7
    the same two codes are 480 and 448.
    """
    backward = FP8_152 if fp8_subnormals else FP8_152_IBM
    forward = backward
    if fwd_format == "143":
        forward = _forward(hfp8_fwd_bias, hfp8_fwd_max == 28, fp8_subnormals)
    chosen, taken = quantized(program, exempt, attention), program.names()
    codes: dict[tuple[Value, Format], Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in GEMMS or op.origin not in chosen:
            return None
        ahead: list[Op] = []
        inputs = []
        for i, v in enumerate(op.inputs):
            is_gradient = i == 0 and op.kind in GRADIENT_PRODUCTS
            format_ = backward if is_gradient else forward
            plain = v.type.format.is_carrier and v.type.scale is Scale.NONE
            if plain and (v, format_) not in codes:
                name = unused(part(op.origin, f"{roles_of(op)[i]}.fp8"), taken)
                codes[v, format_] = Value(name, TensorType(v.type.shape, format_, Scale.POW2))
                ahead.append(Op("cast", (v,), (codes[v, format_],), origin=op.origin))
            inputs.append(codes[v, format_] if plain else v)
        return (*ahead, replace(op, inputs=tuple(inputs)))

    return program.rewrite(rule, by="fp8_operands")


def _forward(bias: int, has_nan: bool, subnormals: bool) -> Format:
    """The 1-4-3 format of that reading."""
    wanted = (4, 3, bias, has_nan, subnormals)
    return next(
        f
        for f in FORMATS.values()
        if f.bits == 8 and (f.exp, f.man, f.bias, bool(f.specials), f.subnormals) == wanted
    )
