"""FP4 operands with two scales in blocks, quantized again from forward's codes for backward.

"TetraJet-v2: Accurate NVFP4 Training for Large Language Models with Oscillation Suppression and
Outlier Control" (Chen et al., 2025; arXiv 2510.27527), as its authors' program has it.

    operand       made of                blocks along      rounding
    x, w          the numbers            forward's sum     to nearest
    dY of dX      dY, transformed        the sum of dX     stochastic
    w of dX       w's codes, the same    the sum of dX     stochastic
    dY of dW      dY, transformed        rows, samples     stochastic
    x of dW       x's codes, the same    rows, samples     stochastic

16 numbers have a scale of fp8.143, 128 an f32. As gradients are those of what forward multiplied,
and each rounding of backward is stochastic, the gradients' expectations are right.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from ..compiler.formats import F32, FP4_121, FP8_143
from ..compiler.ir import Op, Program, Value, attrs
from ..compiler.ir.ops import GRADIENT_PRODUCTS, WEIGHT_GRADS
from ..compiler.types import BlockScale
from .parts.blocks import BlockCodes, BlockOperands, along, sum_dims
from .parts.draws import seed_and_step, with_seed
from .parts.hadamard import Hadamard, Turns
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import Attention, quantized

SIZE, LARGER = 16, 128


class TetrajetSum(NamedTuple):
    """What a product asks of an operand: where it sums, and what it is of the two passes."""

    dim: int
    backward: bool
    turned: bool


@placed(makes=Makes.CODES)
def tetrajet_operands(
    program: Program,
    *,
    hadamard: Hadamard = "random",
    sr: bool = True,
    headroom: float = 1.0,
    exempt: str = "first,last",
    attention: Attention = "keep",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    ``hadamard`` are the signs of backward's transform, ``random`` ones anew in each step; ``sr``
    rounds what backward reads stochastically; ``headroom`` multiplies the scales of blocks;
    RecipeError where it is not positive. Products of groups are not transformed along channels
    where 16 numbers belong to several groups.
    """
    require(headroom > 0, f"headroom={headroom:g} must be positive")
    random = sr or hadamard == "random"
    drawn = seed_and_step(program, "sr=true or hadamard=random") if random else ()
    work = _Tetrajet(program, hadamard, headroom, drawn, sr)
    chosen = quantized(program, exempt, attention)
    rule = BlockOperands(program, chosen, work.ask, work.quantize).rule
    out = program.rewrite(rule, by="tetrajet_operands")
    return with_seed(out, drawn, next(work.salts) > 0)


class _Tetrajet:
    """What is asked of operands, and how codes are made."""

    def __init__(
        self,
        program: Program,
        hadamard: Hadamard,
        headroom: float,
        drawn: tuple[Value, ...],
        sr: bool,
    ) -> None:
        self.hadamard, self.drawn = hadamard, drawn if sr else ()
        self.how = attrs(to=FP4_121.name, headroom=headroom)
        taken, self.salts = program.names(), count()
        self.codes = BlockCodes(taken, self.salts)
        self.turns = Turns(hadamard, SIZE, taken, drawn, self.salts, F32)
        self.forward: dict[Value, Value] = {}  # the codes that forward's products read

    def ask(self, op: Op, i: int) -> TetrajetSum:
        """Backward reads codes of its own."""
        dim, backward = sum_dims(op)[i], op.kind in GRADIENT_PRODUCTS
        turned = backward and self.hadamard != "none" and _turns(op)
        return TetrajetSum(dim, backward, turned)

    def quantize(self, op: Op, i: int, kind: TetrajetSum) -> tuple[list[Op], Value]:
        """Transformed where that is asked for, scaled and rounded."""
        x, ending = op.inputs[i], f"tj{kind.dim}{'b' * kind.backward}"
        read, ops = self.forward.get(x, x) if kind.backward else x, list[Op]()
        if kind.turned:
            ops, read = self.turns.turned(op, i, kind.dim, ending, of=read)
        inner, outer = (along(x, size, kind.dim) for size in (SIZE, LARGER))
        made = FP4_121, BlockScale(inner, FP8_143, outer)
        scaling = Op("scale_blocks_nested", (read,), (), self.how, op.origin)
        drawn = self.drawn if kind.backward else ()
        rounded, code = self.codes.of(op, i, ending, made, scaling, drawn)
        if not kind.backward:
            self.forward.setdefault(x, code)
        return [*ops, *rounded], code


def _turns(op: Op) -> bool:
    """Whether no 16 of the numbers that a product sums belong to several groups."""
    if "groups" not in op.attrs or op.kind in WEIGHT_GRADS:
        return True
    groups = op.int_attr("groups")
    return groups == 1 or op.inputs[0].type.shape[1] // groups % SIZE == 0
