"""MX operands: each product reads blocks of small floats, each block scaled by a power of two.

"OCP Microscaling Formats (MX) Specification" 1.0 (2023); "Microscaling Data Formats for Deep
Learning" (Rouhani et al., 2023); "Recipes for Pre-training LLMs with MXFP8" (Mishra et al., 2025)
for scales that are rounded up.

    operand                         blocks
    x, w of the forward product     along the channels that it sums over
    dY, w of dX                     along the channels of its sum, which are others
    dY, x of dW                     along rows, or samples of images

So a tensor is quantized once for each direction that it is summed along, from its own numbers each
time. A convolution sums over channels and taps: a block is of neighbouring channels at one place,
or one tap; that of dW of neighbouring samples at one place.
"""

from __future__ import annotations

from itertools import count
from typing import Literal

from ..compiler.formats import E8M0, F32, FORMATS
from ..compiler.ir import Op, Program, Value, attrs
from ..compiler.ir.ops import GRADIENT_PRODUCTS
from ..compiler.types import BlockScale, TensorType
from .parts.blocks import BlockOperands, name_of, rounding, sum_dims
from .parts.draws import seed_and_step, with_seed
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import Attention, quantized

MxFormat = Literal["fp8.143", "fp8.152", "fp6.123", "fp6.132", "fp4.121", "int8"]
MxSum = tuple[int, bool]  # the dimension of the sum, and whether it is a gradient


@placed(makes=Makes.CODES)
def mx_operands(
    program: Program,
    *,
    mx_format: MxFormat = "fp8.143",
    mx_gradient_format: MxFormat = "fp8.143",
    mx_scale: Literal["floor", "ceil", "rceil", "even"] = "rceil",
    mx_block: int = 32,
    sr: bool = False,
    exempt: str = "first,last",
    attention: Attention = "quantize",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    ``sr`` rounds gradients stochastically, others are rounded to the nearest. RecipeError for
    blocks of no number.
    """
    require(mx_block >= 1, f"mx_block={mx_block} must be at least 1")
    drawn = seed_and_step(program, "sr=true") if sr else ()
    taken, salts = program.names(), count()

    def ask(op: Op, i: int) -> MxSum:
        return sum_dims(op)[i], i == 0 and op.kind in GRADIENT_PRODUCTS

    def quantize(op: Op, i: int, kind: MxSum) -> tuple[list[Op], Value]:
        v, (dim, gradient) = op.inputs[i], kind
        to = mx_gradient_format if gradient else mx_format
        block = tuple(mx_block if d == dim else 1 for d in range(len(v.type.shape)))
        scale, ending = BlockScale(block, E8M0), f"mx{dim}"
        scaled = Value(
            name_of(op, i, f"{ending}.scaled", taken), TensorType(v.type.shape, F32, scale)
        )
        code = Value(name_of(op, i, ending, taken), TensorType(v.type.shape, FORMATS[to], scale))
        first = Op("scale_blocks", (v,), (scaled,), attrs(to=to, rule=mx_scale), op.origin)
        return [first, rounding(scaled, code, op.origin, drawn if gradient else (), salts)], code

    work = BlockOperands(program, quantized(program, exempt, attention), ask, quantize)
    return with_seed(program.rewrite(work.rule, by="mx_operands"), drawn, next(salts) > 0)
