"""Hybrid FP8: the gradients of some layers in 8-bit floats, for both products or for dW.

"Ultra-Low Precision 4-bit Training" (Sun et al., NeurIPS 2020), section 4: 1x1 convolutions are
sensitive to 4-bit gradients and keep the format that "Hybrid 8-bit Floating Point Training" (Sun et
al., NeurIPS 2019), section 3, gives to gradients.

    layers               dY into dX    dY into dW    top of the layer's GradScale
    fp8_on               fp8.152       fp8.152       57344
    fp8_products=dw      unchanged     fp8.152       unchanged: dX's format is the narrower one
    all others           unchanged     unchanged     unchanged

The paper's MobileNetV2 has 4-bit gradients for dX and FP8 for dW.

The work is found by type: gradients that ``grad_scale`` has scaled and nothing has rounded yet.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from ..compiler.formats import FORMATS
from ..compiler.ir import Op, Program, Region, Value, unused
from ..compiler.ir.ops import DATA_GRADS, GRADIENT_PRODUCTS
from ..compiler.types import Scale, TensorType
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import selected

# Ops that aim at the top of a layer's format.
SCALES = ("grad_scale_init", "channel_scales", "grad_scale_step")


@placed(makes=Makes.CODES, after=("grad_scale",), before=("two_phase_rounding",))
def hybrid_fp8(
    program: Program,
    *,
    fp8_on: str = "1x1",
    fp8_format: Literal["fp8.152", "fp8.152.ibm", "fp8.143"] = "fp8.152",
    fp8_products: Literal["both", "dw"] = "both",
) -> Program:
    """Cast the scaled gradient of each layer that ``fp8_on`` selects to ``fp8_format``.

    ``fp8_on`` takes kernel sizes and layer patterns (``1x1,layer3.*``), or ``none``. An exempt
    layer has no scaled gradient and stays exempt, even where ``fp8_on`` names it. With
    ``fp8_products=dw`` dX is left to the pass that follows.
    """
    chosen, taken = selected(program, fp8_on), program.names()
    format_ = FORMATS[fp8_format]
    whole = fp8_products == "both"
    products = GRADIENT_PRODUCTS if whole else GRADIENT_PRODUCTS - DATA_GRADS
    rounded: dict[Value, Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.origin not in chosen:
            return None
        if op.kind in SCALES and whole:
            return (replace(op, attrs=MappingProxyType({**op.attrs, "top": format_.max})),)
        if op.kind not in products or not is_scaled(op.inputs[0]):
            return None
        g, other = op.inputs
        ahead: tuple[Op, ...] = ()
        if g not in rounded:
            type_ = TensorType(g.type.shape, format_, Scale.POW2)
            rounded[g] = Value(unused(part(op.origin, "dys.fp8"), taken), type_)
            ahead = (Op("cast", (g,), (rounded[g],), origin=op.origin),)
        return (*ahead, replace(op, inputs=(rounded[g], other)))

    return program.rewrite(rule, by="hybrid_fp8")


def is_scaled(g: Value) -> bool:
    """Whether a gradient carries a scale and is not rounded yet."""
    return g.type.scale is Scale.POW2 and g.type.format.is_carrier
