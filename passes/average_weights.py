"""An exponential moving average of the weights, beside the weights that are trained.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (SIAM J. Control
Optim. 30, 1992); in this form Tarvainen and Valpola, "Mean Teachers" (NeurIPS 2017), section 2.

    average' = average + (1 - decay) * (weight' - average)        the first step starts it: weight'

The average of an optimizer that has taken steps before starts from the weights as they are.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.formats import F32
from ..compiler.ir import Attr, Op, Program, Value, attrs, unused
from ..compiler.types import TensorType
from .parts.optimized import optimizer_steps, updates, widened
from .parts.options import require

AVERAGE = ".average"  # the end of a state's name


def average_weights(program: Program, *, decay: float = 0.999) -> Program:
    """Keep ``NAME.average`` of every parameter that is trained, with weight ``decay`` on itself."""
    require(0 < decay < 1, f"decay={decay} of average_weights does not lie between 0 and 1")
    trained = updates(program)
    if not trained:
        return program.done("average_weights")
    taken, ops, pairs = program.names(), list[Op](), list[tuple[Value, Value]]()
    first = Value(unused("average.first", taken), TensorType((), F32))
    ops.append(Op("turn", (optimizer_steps(program),), (first,), attrs(of=0, at=0), "optimizer"))
    for op in trained:
        new = _AverageOps(op, taken, ops)
        average = Value(unused(f"{op.inputs[0].name}{AVERAGE}", taken), op.inputs[0].type)
        starts, widening = widened(first, average, op.origin, taken)
        ops += widening
        away = new("sub", "away", op.result, average)
        moved = new("add", "moved", average, new("scale", "share", away, factor=1 - decay))
        pairs.append((average, new("where", "next", starts, op.result, moved)))
    grown = program.with_state({average: 0.0 for average, _ in pairs}).append("update", tuple(ops))
    return replace(grown, next=(*grown.next, *pairs)).done("average_weights")


class _AverageOps:
    """Appends ops over one parameter."""

    def __init__(self, update: Op, taken: set[str], ops: list[Op]) -> None:
        self.update, self.taken, self.ops = update, taken, ops

    def __call__(self, kind: str, part: str, *inputs: Value, **more: Attr) -> Value:
        weight = self.update.inputs[0]
        made = Value(unused(f"{weight.name}.average.{part}", self.taken), weight.type)
        self.ops.append(Op(kind, inputs, (made,), attrs(**more), self.update.origin))
        return made
