"""Which tensors are never negative: a walk over the forward region with a lattice of two points."""

from __future__ import annotations

from ...compiler.ir import Op, Program, Value
from .names import words

KEEP = words(
    "view permute slice cat cast broadcast max_pool2d avg_pool2d adaptive_avg_pool2d "
    "adaptive_max_pool2d mean sum"
)


def never_negative(program: Program) -> set[Value]:
    """The values of the forward region that cannot be below zero."""
    found: set[Value] = set()
    for op in program.region("forward").ops:
        if _positive(op, found):
            found.add(op.result)
    return found


def _positive(op: Op, found: set[Value]) -> bool:
    if op.kind == "relu":
        return True
    if op.kind == "clamp_min" and op.float_attr("low") >= 0:
        return True
    if not all(v in found for v in op.inputs):
        return False
    if op.kind == "pad":
        return op.float_attr("value") >= 0
    if op.kind == "scale":
        return op.float_attr("factor") >= 0
    return op.kind in KEEP or op.kind in ("add", "mul", "clamp_min")
