"""Steps that are not applied: a count of those whose loss or gradients are no finite numbers.

Micikevicius et al., "Mixed Precision Training" (ICLR 2018), section 3.2: "skip the update when an
overflow is detected and simply move on to the next iteration".

    skipped' = skipped + 1 where a number that ``watched`` lists is infinite or NaN, else skipped

Who runs the program compares ``skipped`` before and after, and where it grew keeps the state of
before, but for the count and for the states that react (``reacting``): GradScale halves the scale
of a layer that overflowed, a dynamic loss scale shrinks.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.formats import I64
from ..compiler.ir import Op, Program, Value, unused
from ..compiler.ir.ops import Trait, has
from ..compiler.types import TensorType
from .parts.finite import watched
from .parts.optimized import updates
from .parts.order import placed

SKIPPED = "skipped"
# Ops that make state which reacts to an overflow, so that the next step does better.


@placed(after=("loss_scale", "accumulate_gradients", "clip_gradients"))
def skip_nonfinite(program: Program) -> Program:
    """Count, as the state ``skipped``, the steps that must not be applied.

    A program that counts them already, or that trains nothing, stays as it is.
    """
    if not updates(program, clips=True) or skip_counter(program) is not None:
        return program.done("skip_nonfinite")
    program, seen = watched(program)
    taken = program.names()
    before = Value(unused(SKIPPED, taken), TensorType((), I64))
    after = Value(unused(f"{SKIPPED}.next", taken), before.type)
    tally = Op("tally", (before, *seen), (after,), origin="optimizer")
    program = program.with_state({before: 0.0}).append("update", (tally,))
    return replace(program, next=(*program.next, (before, after))).done("skip_nonfinite")


def skip_counter(program: Program) -> Value | None:
    """The state that counts the steps not applied; None where the program has none."""
    makers = program.producers()
    return next((s for s, v in program.next if makers[v].kind == "tally"), None)


def reacting(program: Program) -> tuple[Value, ...]:
    """The states that a step changes even where it is not applied, beside its count."""
    makers = program.producers()
    return tuple(s for s, v in program.next if has(makers[v], Trait.SCALE_STEP))
