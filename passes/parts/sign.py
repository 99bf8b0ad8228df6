"""Which tensors are never negative: a walk over the forward region with a lattice of two points."""

from __future__ import annotations

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.ops import Trait, has

POSITIVE = frozenset(("relu", "exp", "sigmoid", "random_mask"))


def never_negative(program: Program) -> set[Value]:
    """The values of the forward region that cannot be below zero."""
    found: set[Value] = set()
    for op in program.region("forward").ops:
        if _positive(op, found):
            found.add(op.result)
    return found


def _positive(op: Op, found: set[Value]) -> bool:
    if op.kind in POSITIVE:
        return True
    if op.kind == "clamp_min" and op.float_attr("low") >= 0:
        return True
    if not all(v in found for v in op.inputs):
        return False
    if op.kind == "div":
        return True
    if op.kind == "pad":
        return op.float_attr("value") >= 0
    if op.kind == "scale":
        return op.float_attr("factor") >= 0
    return has(op, Trait.KEEPS_SIGN)
