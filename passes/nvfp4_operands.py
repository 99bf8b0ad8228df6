"""NVFP4 operands: blocks of 16 four-bit floats with an FP8 scale each, and one f32 for the tensor.

"Pretraining Large Language Models with NVFP4" (NVIDIA, 2025; arXiv 2509.25149); scales in the order
of Transformer Engine's reference.

    operand                blocks                                   rounding
    x of forward           16 along the channels of the sum         to nearest
    w of forward and dX    16 x 16, or 16 along each sum            to nearest
    dY of dX               16 along the channels of its sum         stochastic
    dY and x of dW         16 along rows or samples, behind a       dY stochastic, x to nearest
                           Hadamard transform along them            (or stochastic as well)

16 x 16 numbers of a weight have one scale, so that both products that read it read the same codes.
"FP4 All the Way" (Chmiel et al., NeurIPS 2025; arXiv 2505.19115) has 16 along each sum throughout,
no transform, and rounds both operands of dW stochastically: ``sr_activations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Literal, NamedTuple

from ..compiler.formats import FP4_121, FP8_143
from ..compiler.ir import Attr, Op, Program, Value, attrs
from ..compiler.ir.ops import (
    BETWEEN_ACTIVATIONS,
    FORWARD_GEMMS,
    GEMMS,
    GRADIENT_PRODUCTS,
    WEIGHT_GRADS,
)
from ..compiler.types import BlockScale
from .parts.blocks import BlockCodes, BlockOperands, along, sum_dims
from .parts.draws import seed_and_step, with_seed
from .parts.hadamard import Hadamard, Turns
from .parts.kept_largest import KeptLargest
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import Attention, quantized

SIZE, TOP = 16, 448.0
# With four_over_six a scale may be 1.5 times as large and is still a number of fp8.143.
TOP_OF_FOUR = 256.0


class Nvfp4Sum(NamedTuple):
    """What a product asks of an operand: where it sums, and what else is done to the numbers."""

    dims: tuple[int, ...]
    gradient: bool
    turned: bool
    stochastic: bool


@placed(makes=Makes.CODES)
def nvfp4_operands(
    program: Program,
    *,
    hadamard: Hadamard = "fixed",
    two_d_weights: bool = True,
    sr: bool = True,
    sr_activations: bool = False,
    headroom: float = 1.0,
    four_over_six: bool = False,
    products: Literal["all", "forward"] = "all",
    exempt: str = "first,last",
    attention: Attention = "keep",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    States such as ``LAYER.x.nv1.max`` keep the largest magnitudes of data for prediction; they are
    0 before any training step, where the scale of a tensor is 1. ``hadamard`` are the signs of the
    transform, ``random`` ones anew in each step; ``sr`` rounds gradients stochastically and
    ``sr_activations`` x of dW; ``headroom`` multiplies the scales of blocks; RecipeError where it
    is not positive.
    ``four_over_six`` takes for each block that is rounded to the nearest the better one of two
    scales, by which its largest number becomes 6 or 4. With ``products=forward`` those of backward
    read the carrier.
    """
    require(headroom > 0, f"headroom={headroom:g} must be positive")
    random = sr or sr_activations or hadamard == "random"
    drawn = seed_and_step(program, "sr, sr_activations or hadamard=random") if random else ()
    how = attrs(to=FP4_121.name, headroom=headroom)
    by_chance = sr, sr_activations
    work = _Nvfp4(program, hadamard, two_d_weights, how, four_over_six, drawn, by_chance)
    chosen = quantized(program, exempt, attention)
    kinds = FORWARD_GEMMS if products == "forward" else GEMMS
    rule = BlockOperands(program, chosen, work.ask, work.quantize, kinds).rule
    out = work.largest.added(program.rewrite(rule, by="nvfp4_operands"))
    return with_seed(out, drawn, next(work.salts) > 0)


class _Nvfp4:
    """What is asked of operands, and how codes are made."""

    def __init__(
        self,
        program: Program,
        hadamard: Hadamard,
        two_d: bool,
        how: Mapping[str, Attr],
        four: bool,
        drawn: tuple[Value, ...],
        by_chance: tuple[bool, bool],
    ) -> None:
        self.hadamard, self.two_d, self.how, self.four = hadamard, two_d, how, four
        self.drawn, (self.sr, self.sr_activations) = drawn, by_chance
        self.taken, self.weights = program.names(), frozenset(program.state)
        self.salts = count()
        self.codes = BlockCodes(self.taken, self.salts)
        self.turns = Turns(hadamard, SIZE, self.taken, drawn, self.salts)
        self.largest = KeptLargest(program, self.taken)

    def ask(self, op: Op, i: int) -> Nvfp4Sum:
        """One of a weight in two dimensions asks alike for both of its products."""
        dim, of_dw = sum_dims(op)[i], op.kind in WEIGHT_GRADS - BETWEEN_ACTIVATIONS
        weight = self.two_d and op.inputs[i] in self.weights and not of_dw
        gradient = i == 0 and op.kind in GRADIENT_PRODUCTS
        dims = (0, 1) if weight else (dim,)
        stochastic = self.sr if gradient else self.sr_activations and of_dw
        return Nvfp4Sum(dims, gradient, of_dw and self.hadamard != "none", stochastic)

    def quantize(self, op: Op, i: int, kind: Nvfp4Sum) -> tuple[list[Op], Value]:
        """Transformed where that is asked for, scaled twice and rounded."""
        x, ending = op.inputs[i], f"nv{''.join(map(str, kind.dims))}"
        ops: list[Op] = []
        if kind.turned:
            ops, x = self.turns.turned(op, i, kind.dims[0], ending)
        made = FP4_121, BlockScale(along(x, SIZE, *kind.dims), FP8_143, outer=())
        kept = not (x in self.weights or kind.gradient or kind.turned or kind.stochastic)
        largest, m = self.largest.of(op, i, x, ending, kept)
        drawn = self.drawn if kind.stochastic else ()
        four = self.four and not drawn
        how = attrs(**self.how, top=TOP_OF_FOUR if four else TOP, four_over_six=four)
        scaling = Op("scale_blocks_twice", (x, m), (), how, op.origin)
        rounded, code = self.codes.of(op, i, ending, made, scaling, drawn)
        return [*ops, *largest, *rounded], code
