"""Progressive precision: more bits for all quantizers whenever the loss has stopped falling.

"FracTrain: Fractionally Squeezing Bit Savings Both Temporally and Spatially" (Fu et al., NeurIPS
2020), section 3.1 (PFQ); the indicator is that of the authors' program.

    epoch     eval_every steps, with the mean of their losses
    norm      mean of the first 10 epochs
    plateau   of the last 5 epochs none differs from the newest by more than eps norm: the next
              stage begins, the 5 are forgotten, eps is multiplied by alpha (the first two times)

The last stage stays. The state ``schedule.plateau`` holds the indicator; bits are operands, so that
nothing is compiled again.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.errors import RecipeError
from ..compiler.formats import F32
from ..compiler.ir import Op, Program, Value, attrs, unused
from ..compiler.types import TensorType
from .affine import SCALAR, is_training
from .options import require
from .schedules import SCHEDULE, check_bits, check_quantizers, scheduled, with_bits

NAME = "progressive_precision"
PLATEAU = TensorType((11,), F32)


def progressive_precision(
    program: Program,
    *,
    forward_stages: str = "3,4,6,8",
    backward_stages: str = "6,6,8,8",
    eps: float = 0.05,
    alpha: float = 0.3,
    eval_every: int = 400,
) -> Program:
    """Let quantizers read the bits of their stage: forward ones, and those of gradients.

    Both lists have one number for each stage. RecipeError for a program without a loss to watch.
    """
    require(eval_every >= 1, f"eval_every={eval_every} of {NAME} is not at least 1")
    require(eps > 0 and alpha > 0, f"eps={eps:g} and alpha={alpha:g} of {NAME} must be positive")
    stages = {"forward": _numbers("forward_stages", forward_stages)}
    stages["backward"] = _numbers("backward_stages", backward_stages)
    lengths = {len(bits) for bits in stages.values()}
    require(
        len(lengths) == 1,
        f"forward_stages={forward_stages} and backward_stages={backward_stages} differ in length",
    )
    if not check_quantizers(program, NAME):
        return program.done(NAME)
    state, taken = Value(f"{SCHEDULE}.plateau", PLATEAU), program.names()
    after = Value(unused(f"{state.name}.next", taken), PLATEAU)
    out = program.with_state({state: 0.0})
    for region, bits in stages.items():
        check_bits(program, region, min(bits), max(bits), NAME)
        if scheduled(program, region):
            now = Value(unused(f"{SCHEDULE}.{region}", taken), SCALAR)
            made = Op("stage_bits", (state,), (now,), attrs(bits=bits), SCHEDULE)
            out = with_bits(out, now, region, (made,))
    if not is_training(program):
        return out.done(NAME)
    limits = tuple(eps * alpha ** min(stage, 2) for stage in range(lengths.pop() - 1))
    how = attrs(every=eval_every, eps=limits)
    watch = Op("plateau", (_loss(program), state), (after,), how, SCHEDULE)
    out = out.append("update", (watch,))
    return replace(out, next=(*out.next, (state, after))).done(NAME)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        bits = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise RecipeError(
            f"{option}={text} of {NAME} is no list of bits, such as 3,4,6,8"
        ) from None
    require(len(bits) > 1, f"{option}={text} of {NAME} has no second stage")
    return bits


def _loss(program: Program) -> Value:
    loss = program.outputs[0] if program.outputs else None
    updates = any(r.name == "update" for r in program.regions)
    if loss is None or loss.type != SCALAR or not updates:
        raise RecipeError(
            f"{NAME} watches the loss from step to step, and this program has no loss and update"
        )
    return loss
