"""Where tensors end that have a largest possible number: shares, as of softmax, and masks."""

from __future__ import annotations

from math import prod

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.ops import Trait, has
from .sign import never_negative


def upper_bounds(program: Program) -> dict[Value, float]:
    """The largest number that each value of the forward region can have, where that is known."""
    positive, made = never_negative(program), program.producers()
    found: dict[Value, float] = {}
    for op in program.region("forward").ops:
        if op.kind in ("sigmoid", "random_mask") or _is_share(op, positive, made):
            found[op.result] = 1.0
        elif all(v in found for v in op.inputs) and op.inputs and positive.issuperset(op.inputs):
            bounds = [found[v] for v in op.inputs]
            if op.kind == "mul":
                found[op.result] = prod(bounds)
            elif op.kind == "scale" and op.float_attr("factor") >= 0:
                found[op.result] = bounds[0] * op.float_attr("factor")
            elif has(op, Trait.MOVES):
                found[op.result] = max(bounds)
    return found


def _is_share(op: Op, positive: set[Value], made: dict[Value, Op]) -> bool:
    """Whether it divides numbers that are never negative by their own sum."""
    if op.kind != "div" or op.inputs[0] not in positive:
        return False
    total: Op | None = made.get(op.inputs[1])
    while total is not None and total.kind in ("broadcast", "view"):
        total = made.get(total.inputs[0])
    return total is not None and total.kind == "sum" and total.inputs[0] is op.inputs[0]
