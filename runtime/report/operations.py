"""What an op between products does to its elements: additions, multiplications, functions, draws.

Counts of arithmetic as a machine with lanes would do it, not instructions of a kernel of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.ir import Op
from ...compiler.ir.ops import PRODUCTS, Trait, has
from ...compiler.ir.rule import Act
from ...compiler.ir.updates import rule_of

# Nothing is computed, or once and for all.
FREE = frozenset(
    {"amax_first", "constant", "steps", "rows_of_step", "carried", "feed", "all_steps"}
)
RANDOM = frozenset(
    {"quantize_affine_stochastic", "round_stochastic", "round_float", "random_mask",
     "random_uniform"}
)  # fmt: skip
# Additions and multiplications of an element where they are not one and none.
ADDS_MULTIPLIES = {
    "batch_stats": (2, 1),
    "batch_norm": (1, 1),
    "batch_norm_grad_stats": (3, 2),
    "batch_norm_input_grad": (2, 2),
    "batch_norm_eval_grad": (0, 1),
    "quantize": (2, 1),
    "quantize_bits": (2, 1),
    "quantize_affine": (3, 1),
    "quantize_affine_stochastic": (4, 1),
    "squeeze": (2, 2),
    "round_log": (1, 1),
    "round_stochastic": (2, 1),
    "dequantize": (1, 1),
    "cast": (1, 0),
    "grad_scale": (0, 1),
    "normalize": (0, 1),
    "rescale": (0, 1),
    "mul": (0, 1),
    "scale": (0, 1),
    "div": (0, 4),
    "sawb_clip": (2, 1),
    "hadamard": (5, 1),
    "scale_blocks": (1, 1),
    "fit_blocks": (1, 1),
    "scale_blocks_twice": (1, 2),
}


@dataclass(frozen=True, slots=True)
class Operations:
    """How many of each sort; a division counts as four multiplications."""

    adds: int = 0
    multiplies: int = 0
    functions: int = 0
    randoms: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.adds + self.multiplies + self.functions + self.randoms


def moves_nothing(op: Op) -> bool:
    """Whether an op reads and writes no memory: a view, a constant, what the first step does."""
    first = has(op, Trait.STARTS_SCALE) and not op.attrs.get("always")
    return first or op.kind in FREE or has(op, Trait.WINDOW)


def operations(op: Op) -> Operations:
    """What an op does to all of its elements, in a step that is not the first one."""
    n = max((v.type.elements for v in (*op.inputs, *op.results)), default=0)
    if moves_nothing(op) or op.kind in PRODUCTS or has(op, Trait.MOVES):
        return Operations()
    if has(op, Trait.UPDATE):
        return _update(op)
    adds, multiplies = ADDS_MULTIPLIES.get(op.kind, (1, 0))
    function, random = has(op, Trait.FUNCTION) or op.kind == "squeeze", op.kind in RANDOM
    return Operations(adds * n, multiplies * n, n * function, n * random)


def _update(op: Op) -> Operations:
    """By the optimizer's formula; of one whose elements meet an addition of each element."""
    n = op.inputs[0].type.elements
    if has(op, Trait.COMPOSED):
        return Operations(adds=n)
    acts = [step.act for step in rule_of(op).steps if step.each]
    multiplies = sum(a is Act.MUL for a in acts) + 4 * sum(a is Act.DIV for a in acts)
    functions = sum(a in (Act.SQRT, Act.EXP, Act.LOG1P) for a in acts)
    free = (Act.READ, Act.CONSTANT, Act.WIDEN, Act.NARROW, Act.MUL, Act.DIV)
    adds = sum(a not in free for a in acts) - functions
    return Operations(adds * n, multiplies * n, functions * n)
