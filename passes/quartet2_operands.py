"""Quartet II's operands: NVFP4 with the better of two scales ahead, without bias on the way back.

"Quartet II: Accurate LLM Pre-Training in NVFP4 by Improved Unbiased Gradient Estimation" (Panferov
et al., 2026; arXiv 2601.22813), with the numbers of its authors' code.

    operand                     numbers                               scales of blocks of 16
    x, w of forward             to nearest                            by 6 or 4, the better one
    dY, w of dX; dY, x of dW    behind a Hadamard transform drawn     of each row of the transform
                                in each step, to nearest              times one factor, stochastic

A row of numbers t that become q is multiplied by (sum t t) / (sum t q): seen along the row nothing
is lost. Over all transforms the mean is then the row itself, and scales that are rounded by chance
keep that. w and x of backward are what forward's codes say.
"""

from __future__ import annotations

from itertools import count
from typing import Literal, NamedTuple

from ..compiler.formats import F32, FP4_121, FP8_143, Format
from ..compiler.ir import Op, Program, Value, attrs
from ..compiler.ir.ops import GRADIENT_PRODUCTS, WEIGHT_GRADS
from ..compiler.types import BlockScale, TensorType
from .nvfp4_operands import SIZE, TOP, TOP_OF_FOUR
from .parts.blocks import BlockCodes, BlockOperands, along, name_of, sum_dims
from .parts.draws import seed_and_step, with_seed
from .parts.hadamard import Turns
from .parts.kept_largest import KeptLargest
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import Attention, layers, quantized

Correction = Literal["real", "stored", "none"]
# What scales are multiplied by: with it no number lies beyond 6, and the better one in the mean.
ROOM = 17 / 16
SMALLER = ROOM * 0.93
# The largest scale of a block of backward, ahead of its factor.
TOP_OF_BACKWARD = 255.99


class Quartet2Sum(NamedTuple):
    """What a product asks of an operand: where it sums, and what is done to the numbers.

    ``forward_dim`` is where forward sums what backward reads as forward's codes.
    """

    dim: int
    backward: bool = False
    turned: bool = False
    gradient: bool = False
    forward_dim: int | None = None


@placed(makes=Makes.CODES)
def quartet2_operands(
    program: Program,
    *,
    four_over_six: bool = True,
    hadamard: Literal["random", "fixed"] = "random",
    hadamard_size: int = 128,
    correction: Correction = "real",
    backward_from: Literal["codes", "numbers"] = "codes",
    exempt: str = "first,last",
    attention: Attention = "keep",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    States such as ``LAYER.x.q1.max`` keep the largest magnitudes of data for prediction.
    ``hadamard_size`` numbers are a row of the transform: a power of two, at least 16, else
    RecipeError. ``correction`` takes the sums of real numbers, or of stored ones, without the
    scales of their blocks; with ``none`` scales are rounded to the nearest.
    """
    whole = hadamard_size >= SIZE and hadamard_size & (hadamard_size - 1) == 0
    require(whole, f"hadamard_size={hadamard_size} must be a power of two, at least {SIZE}")
    drawn: tuple[Value, ...] = ()
    if hadamard == "random" or correction != "none":
        drawn = seed_and_step(program, "hadamard=random or a correction")
    how = Quartet2How(four_over_six, correction, backward_from == "codes", hadamard_size)
    turns = Turns(hadamard, hadamard_size, taken := program.names(), drawn, salts := count())
    work = _Quartet2(program, how, BlockCodes(taken, salts), turns)
    chosen = quantized(program, exempt, attention)
    operands = BlockOperands(program, chosen, work.ask, work.quantize, late=work.late)
    out = work.largest.added(program.rewrite(operands.rule, by="quartet2_operands"))
    return with_seed(out, drawn, next(salts) > 0)


class Quartet2How(NamedTuple):
    """What the options say: of forward's scales, of backward's, and the row of the transform."""

    four: bool
    correction: Correction
    from_codes: bool
    row: int


class _Quartet2:
    """What is asked of operands, and how codes are made."""

    def __init__(self, program: Program, how: Quartet2How, codes: BlockCodes, turns: Turns) -> None:
        self.how, self.codes, self.turns = how, codes, turns
        self.weights, self.layers = frozenset(program.state), layers(program)
        self.largest = KeptLargest(program, codes.taken)
        self.forward: dict[tuple[Value, int], Value] = {}

    def ask(self, op: Op, i: int) -> Quartet2Sum:
        """A transform along the channels of several groups would mix them."""
        dim = sum_dims(op)[i]
        if op.kind not in GRADIENT_PRODUCTS:
            return Quartet2Sum(dim)
        turned = op.kind in WEIGHT_GRADS or op.attrs.get("groups", 1) == 1
        if i == 0 or not self.how.from_codes:
            return Quartet2Sum(dim, True, turned, i == 0)
        place = 0 if op.kind in WEIGHT_GRADS else 1
        return Quartet2Sum(dim, True, turned, False, sum_dims(self.layers[op.origin])[place])

    def late(self, kind: Quartet2Sum) -> bool:
        """Whether codes are made of forward's, which are kept for that."""
        return kind.forward_dim is not None

    def quantize(self, op: Op, i: int, kind: Quartet2Sum) -> tuple[list[Op], Value]:
        """Forward: the better of two scales. Backward: transformed, rounded, scales corrected."""
        x = op.inputs[i]
        if not kind.backward:
            ops, self.forward[x, kind.dim] = self._ahead(op, i, kind.dim)
            return ops, self.forward[x, kind.dim]
        ops = list[Op]()
        if kind.forward_dim is not None:
            ops, x = self._decoded(op, i, kind.forward_dim)
        made, code = self._back(op, i, x, kind)
        return [*ops, *made], code

    def _back(self, op: Op, i: int, x: Value, kind: Quartet2Sum) -> tuple[list[Op], Value]:
        """Codes for a product of backward; without a transform a gradient's are drawn."""
        ending = f"back{kind.dim}"
        turned: list[Op] = []
        if kind.turned:
            turned, x = self.turns.turned(op, i, kind.dim, ending, of=x)
        largest, m = self.largest.of(op, i, x, ending, kept=False)
        room = SMALLER if kind.turned else ROOM
        how = attrs(to=FP4_121.name, headroom=room, top=TOP_OF_BACKWARD / room, four_over_six=False)
        scaling = Op("scale_blocks_twice", (x, m), (), how, op.origin)
        drawn = self.turns.drawn if kind.gradient and not kind.turned else ()
        rounded, code = self.codes.of(op, i, ending, _blocks(x, kind.dim), scaling, drawn)
        ops = [*turned, *largest, *rounded]
        if self.how.correction == "none" or not kind.turned:
            return ops, code
        fitted = Value(name_of(op, i, f"{ending}.fitted", self.codes.taken), code.type)
        by = attrs(
            dim=kind.dim, group=self.how.row, by=self.how.correction, salt=next(self.codes.salts)
        )
        correct = Op("correct_scales", (code, x, *self.turns.drawn), (fitted,), by, op.origin)
        return [*ops, correct], fitted

    def _ahead(self, op: Op, i: int, dim: int) -> tuple[list[Op], Value]:
        """Codes for a forward product."""
        x, ending = op.inputs[i], f"q{dim}"
        largest, m = self.largest.of(op, i, x, ending, kept=x not in self.weights)
        top = TOP_OF_FOUR if self.how.four else TOP
        how = attrs(to=FP4_121.name, headroom=1.0, top=top, four_over_six=self.how.four)
        scaling = Op("scale_blocks_twice", (x, m), (), how, op.origin)
        rounded, code = self.codes.of(op, i, ending, _blocks(x, dim), scaling, ())
        return [*largest, *rounded], code

    def _decoded(self, op: Op, i: int, dim: int) -> tuple[list[Op], Value]:
        """The numbers that forward's codes of an operand stand for."""
        x, ops = op.inputs[i], list[Op]()
        if (x, dim) not in self.forward:
            ops, self.forward[x, dim] = self._ahead(op, i, dim)
        code = self.forward[x, dim]
        made = Value(
            name_of(op, i, f"q{dim}.read", self.codes.taken), TensorType(x.type.shape, F32)
        )
        return [*ops, Op("dequantize", (code,), (made,), origin=op.origin)], made


def _blocks(x: Value, dim: int) -> tuple[Format, BlockScale]:
    return FP4_121, BlockScale(along(x, SIZE, dim), FP8_143, outer=())
