"""MX operands: each product reads blocks of small floats, each block scaled by a power of two.

"OCP Microscaling Formats (MX) Specification" 1.0 (2023); "Microscaling Data Formats for Deep
Learning" (Rouhani et al., 2023); "Recipes for Pre-training LLMs with MXFP8" (Mishra et al., 2025)
for scales that are rounded up; "Training LLMs with MXFP4" (Tseng et al., 2025) for gradients that
are rounded stochastically, behind a transform.

    operand                         blocks
    x, w of the forward product     along the channels that it sums over
    dY, w of dX                     along the channels of its sum, which are others
    dY, x of dW                     along rows, or samples of images

So a tensor is quantized once for each direction that it is summed along, from its own numbers each
time. A convolution sums over channels and taps: a block is of neighbouring channels at one place,
or one tap; that of dW of neighbouring samples at one place. With ``hadamard`` both operands of dW
are transformed along their blocks, which leaves the product as it is.
"""

from __future__ import annotations

from itertools import count
from typing import Literal, NamedTuple

from ..compiler.formats import E8M0
from ..compiler.ir import Op, Program, Value, attrs
from ..compiler.ir.ops import BETWEEN_ACTIVATIONS, GRADIENT_PRODUCTS, WEIGHT_GRADS
from ..compiler.spelled import format_of
from ..compiler.types import BlockScale
from .parts.blocks import BlockCodes, BlockOperands, along, sum_dims
from .parts.draws import seed_and_step, with_seed
from .parts.hadamard import Hadamard, Turns
from .parts.options import FormatName, require
from .parts.order import Makes, placed
from .parts.select import Attention, quantized


class MxSum(NamedTuple):
    """What a product asks of an operand: where it sums, and what else is done to the numbers."""

    dim: int
    gradient: bool
    turned: bool


@placed(makes=Makes.CODES)
def mx_operands(
    program: Program,
    *,
    mx_format: FormatName = "fp8.143",
    mx_gradient_format: FormatName = "fp8.143",
    mx_scale: Literal["floor", "ceil", "rceil", "even"] = "rceil",
    mx_block: int = 32,
    sr: bool = False,
    hadamard: Hadamard = "none",
    exempt: str = "first,last",
    attention: Attention = "quantize",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    ``sr`` rounds gradients stochastically, others are rounded to the nearest; ``hadamard`` are the
    signs of the transform for dW, ``random`` ones anew in each step. RecipeError for blocks of no
    number, or of a number that is no power of two where they are transformed.
    """
    require(mx_block >= 1, f"mx_block={mx_block} must be at least 1")
    whole = hadamard == "none" or mx_block & (mx_block - 1) == 0
    require(whole, f"mx_block={mx_block} must be a power of two where hadamard={hadamard}")
    random = sr or hadamard == "random"
    drawn = seed_and_step(program, "sr=true or hadamard=random") if random else ()
    codes = BlockCodes(program.names(), salts := count())
    turns = Turns(hadamard, mx_block, codes.taken, drawn, salts)

    def ask(op: Op, i: int) -> MxSum:
        turned = hadamard != "none" and op.kind in WEIGHT_GRADS - BETWEEN_ACTIVATIONS
        return MxSum(sum_dims(op)[i], i == 0 and op.kind in GRADIENT_PRODUCTS, turned)

    def quantize(op: Op, i: int, kind: MxSum) -> tuple[list[Op], Value]:
        ending = f"mx{kind.dim}"
        ops, v = turns.turned(op, i, kind.dim, ending) if kind.turned else ([], op.inputs[i])
        to = mx_gradient_format if kind.gradient else mx_format
        made = format_of(to), BlockScale(along(v, mx_block, kind.dim), E8M0)
        scaling = Op("scale_blocks", (v,), (), attrs(to=to, rule=mx_scale), op.origin)
        by = drawn if kind.gradient and sr else ()
        rounded, code = codes.of(op, i, ending, made, scaling, by)
        return [*ops, *rounded], code

    work = BlockOperands(program, quantized(program, exempt, attention), ask, quantize)
    return with_seed(program.rewrite(work.rule, by="mx_operands"), drawn, next(salts) > 0)
