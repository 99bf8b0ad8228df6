"""Progressive precision: more bits for quantizers whenever the loss has stopped falling.

"FracTrain: Fractionally Squeezing Bit Savings Both Temporally and Spatially" (Fu et al., NeurIPS
2020), section 3.1 (PFQ). ``plateau.py`` says when; bits are operands, so that nothing is compiled
again.
"""

from __future__ import annotations

from ..compiler.errors import RecipeError
from ..compiler.ir import Op, Program, Value, attrs, unused
from ..compiler.types import SCALAR
from .parts.options import require
from .parts.order import Makes, placed
from .parts.plateau import Plateau
from .parts.schedules import SCHEDULE, check_bits, check_quantizers, scheduled, with_bits

NAME = "progressive_precision"


@placed(makes=Makes.BITS, after=(Makes.CODES,))
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

    Both lists have one number for each stage. Gradients that are no affine codes stay as they are.
    RecipeError for a program without a loss to watch.
    """
    plateau = Plateau(NAME, eps, alpha, eval_every)
    asked = {
        "forward": f"forward_stages={forward_stages}",
        "backward": f"backward_stages={backward_stages}",
    }
    stages = {region: _numbers(text) for region, text in asked.items()}
    lengths = {len(bits) for bits in stages.values()}
    require(
        len(lengths) == 1,
        f"{asked['forward']} and {asked['backward']} differ in length",
    )
    if not check_quantizers(program, NAME):
        return program.done(NAME)
    out, state = plateau.of(program, lengths.pop())
    taken = out.names()
    for region, bits in stages.items():
        check_bits(program, region, min(bits), max(bits), asked[region])
        if scheduled(program, region):
            now = Value(unused(f"{SCHEDULE}.{region}", taken), SCALAR)
            made = Op("stage_bits", (state,), (now,), attrs(bits=bits), SCHEDULE)
            out = with_bits(out, now, region, (made,))
    return out.done(NAME)


def _numbers(asked: str) -> tuple[int, ...]:
    try:
        bits = tuple(int(word) for word in asked.partition("=")[2].split(","))
    except ValueError:
        raise RecipeError(f"{asked} of {NAME} is no list of bits, such as 3,4,6,8") from None
    require(len(bits) > 1, f"{asked} of {NAME} has no second stage")
    require(bits == tuple(sorted(bits)), f"{asked} of {NAME} falls; no stage has fewer bits")
    return bits
