"""Progressive target: the cost that gates may pay rises whenever the loss has stopped falling.

"FracTrain: Fractionally Squeezing Bit Savings Both Temporally and Spatially" (Fu et al., NeurIPS
2020), section 3.3: the indicator of PFQ sets the target of DFQ. ``plateau.py`` says when.
"""

from __future__ import annotations

from ..compiler.errors import RecipeError
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.analysis import is_training
from ..compiler.types import SCALAR
from .gated_precision import OVER
from .parts.options import require
from .parts.order import placed
from .parts.plateau import Plateau
from .parts.schedules import SCHEDULE
from .parts.select import layers

NAME = "progressive_target"


@placed(after=("gated_precision",))
def progressive_target(
    program: Program,
    *,
    first: float = 1.5,
    rise: float = 0.5,
    stages: int = 4,
    eps: float = 0.05,
    alpha: float = 0.3,
    eval_every: int = 400,
) -> Program:
    """Hold the gates to ``first + stage * rise`` percent of training in 32 bits.

    RecipeError for a program without gates, see ``gated_precision``.
    """
    plateau = Plateau(NAME, eps, alpha, eval_every)
    require(stages > 1, f"stages={stages} of {NAME} has no second stage")
    require(first > 0 and rise > 0, f"first={first:g} and rise={rise:g} of {NAME} must be positive")
    if not layers(program) or not is_training(program):
        return program.done(NAME)
    _check_gates(program)
    out, state = plateau.of(program, stages)
    taken = out.names()

    def new(name: str) -> Value:
        return Value(unused(f"{SCHEDULE}.{name}", taken), SCALAR)

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.result.name != OVER:
            return None
        stage, risen, target = map(new, ("stage", "risen", "target"))
        return (
            Op("stage_bits", (state,), (stage,), attrs(bits=tuple(range(stages))), SCHEDULE),
            Op("scale", (stage,), (risen,), attrs(factor=float(rise)), SCHEDULE),
            Op("shift", (risen,), (target,), attrs(by=float(first)), SCHEDULE),
            Op("sub", (op.inputs[0], target), op.results, origin=op.origin),
        )

    return out.rewrite(rule, by=NAME)


def _check_gates(program: Program) -> None:
    if not any(op.result.name == OVER for _, op in program.ops()):
        raise RecipeError(
            f"{NAME} sets the target of gates, and the passes ahead of it make none; put "
            "gated_precision there"
        )
