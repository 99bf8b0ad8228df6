"""The indicator of FracTrain: has the loss stopped falling? What passes share that follow it.

"FracTrain: Fractionally Squeezing Bit Savings Both Temporally and Spatially" (Fu et al., NeurIPS
2020), section 3.1; the indicator is that of the authors' program.

    epoch     every so many steps, with the mean of their losses
    norm      mean of the first 10 epochs
    plateau   of the last 5 epochs none differs from the newest by more than eps norm: the next
              stage begins, the 5 are forgotten, eps is multiplied by alpha (the first two times)

The last stage stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.errors import RecipeError
from ...compiler.formats import F32
from ...compiler.ir import Op, Program, Value, attrs, unused
from ...compiler.ir.analysis import is_training
from ...compiler.types import SCALAR, TensorType
from .options import require
from .schedules import SCHEDULE

PLATEAU = f"{SCHEDULE}.plateau"
MEMORY = TensorType((11,), F32)


@dataclass(frozen=True, slots=True)
class Plateau:
    """``eps`` at the first stage, what it is multiplied by, and the steps of an epoch.

    ``name`` is the pass that follows it; RecipeError for numbers out of range.
    """

    name: str
    eps: float
    alpha: float
    every: int

    def __post_init__(self) -> None:
        name, eps, alpha = self.name, self.eps, self.alpha
        require(self.every >= 1, f"eval_every={self.every} of {name} is not at least 1")
        require(
            eps > 0 and alpha > 0, f"eps={eps:g} and alpha={alpha:g} of {name} must be positive"
        )

    def of(self, program: Program, stages: int) -> tuple[Program, Value]:
        """``program`` with the indicator as the state ``schedule.plateau``, which its ops read.

        In training it watches the loss; RecipeError for a program without one.
        """
        state = Value(PLATEAU, MEMORY)
        out = program.with_state({state: 0.0})
        if not is_training(program):
            return out, state
        after = Value(unused(f"{state.name}.next", program.names()), MEMORY)
        limits = tuple(self.eps * self.alpha ** min(stage, 2) for stage in range(stages - 1))
        how = attrs(every=self.every, eps=limits)
        watch = Op("plateau", (self._loss(program), state), (after,), how, SCHEDULE)
        out = out.append("update", (watch,))
        return replace(out, next=(*out.next, (state, after))), state

    def _loss(self, program: Program) -> Value:
        loss = program.outputs[0] if program.outputs else None
        updates = any(r.name == "update" for r in program.regions)
        if loss is None or loss.type != SCALAR or not updates:
            raise RecipeError(
                f"{self.name} watches the loss from step to step, and this program has no loss and "
                "update"
            )
        return loss
