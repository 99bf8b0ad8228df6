"""Affine gradients: dY in codes with stochastic rounding; bifurcation keeps a finer copy for dW.

"Scalable Methods for 8-bit Training of Neural Networks" (Banner et al., NeurIPS 2018), section 4,
gradient bifurcation.

    bifurcation   dY into dX                         dY into dW
    true          codes, extremes of the tensor,     bf16 (bifurcation_dw_bits=16), or as it is
                  stochastic rounding                (32: the authors' code)
    false         the same                           the same codes

The codes are drawn anew in each step, from the seed, the step and the place of an element.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import BF16, F32
from ..compiler.ir import Op, Program, Region, Value
from ..compiler.ir.ops import DATA_GRADS, GRADIENT_PRODUCTS
from ..compiler.types import Scale, TensorType
from .parts.affine import Quantizers
from .parts.draws import seed_and_step, with_seed
from .parts.order import Makes, placed
from .parts.select import Attention, quantized


@placed(makes=Makes.CODES)
def affine_gradients(
    program: Program,
    *,
    gradient_bits: Literal[2, 3, 4, 5, 6, 7, 8, 10, 12, 16] = 8,
    bifurcation: bool = True,
    bifurcation_dw_bits: Literal[16, 32] = 16,
    exempt: str = "none",
    attention: Attention = "keep",
) -> Program:
    """Quantize the output gradient of each layer for dX and, without ``bifurcation``, for dW.

    Both gradients of a product of activations count as dX. Codes of more than 8 bits are stored in
    16. A gradient that several layers read, such as that of a residual sum, is quantized once.
    """
    chosen = quantized(program, exempt, attention)
    wanted = DATA_GRADS if bifurcation else GRADIENT_PRODUCTS
    work = any(op.kind in wanted and op.origin in chosen for _, op in program.ops())
    drawn = seed_and_step(program, "the rounding of gradients") if work else ()
    quantizers = Quantizers(program, "gradients", gradient_bits, drawn)
    copies: dict[Value, Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in GRADIENT_PRODUCTS or op.origin not in chosen:
            return None
        g, other = op.inputs
        if not g.type.format.is_carrier or g.type.scale is not Scale.NONE:
            return None
        ahead: tuple[Op, ...] = ()
        if op.kind in wanted:
            if g not in quantizers.codes:
                ahead = quantizers.within_extremes(g, "dy", op.origin)
            return (*ahead, replace(op, inputs=(quantizers.codes[g], other)))
        if bifurcation_dw_bits == 32 or g.type.format is not F32:
            return None
        if g not in copies:
            copies[g] = quantizers.new(op.origin, "dy.copy", TensorType(g.type.shape, BF16))
            ahead = (Op("cast", (g,), (copies[g],), origin=op.origin),)
        return (*ahead, replace(op, inputs=(copies[g], other)))

    out = program.rewrite(rule, by="affine_gradients")
    return with_seed(out, drawn, bool(quantizers.codes))
