"""Where tensors end that have a largest possible number: shares, as of softmax, masks, tanh.

What a loop carries is bounded where it is so at first and each step keeps it: h of an LSTM is
o tanh(c), that of a GRU lies between two numbers that are.
"""

from __future__ import annotations

from math import inf, prod

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.loops import CARRIED, loops
from ...compiler.ir.ops import Trait, has
from .sign import never_negative

WITHIN_ONE = frozenset(("tanh", "sigmoid", "erf", "sin", "cos", "sign", "random_mask"))


def magnitudes(program: Program) -> dict[Value, float]:
    """The largest magnitude that each value of the forward region can have, where it is known."""
    feeds = {x: feed.inputs[1] for x, feed in loops(program).feeds.items()}
    carried = dict.fromkeys(feeds, 1.0)
    while True:
        found = _magnitudes(program, carried)
        broken = [x for x in carried if found.get(feeds[x], inf) > carried[x]]
        if not broken:
            return found
        carried = {x: bound for x, bound in carried.items() if x not in broken}


def _magnitudes(program: Program, carried: dict[Value, float]) -> dict[Value, float]:
    """The same, where loops carry numbers within ``carried``."""
    made, found = program.producers(), upper_bounds(program)
    for op in program.region("forward").ops:
        bound = _magnitude(op, [found.get(v, inf) for v in op.inputs], made, found)
        if op.kind == CARRIED:
            bound = carried.get(op.result, inf) if bound <= 1.0 else inf
        if bound < inf:
            found[op.result] = min(bound, found.get(op.result, inf))
    return found


def _magnitude(
    op: Op, bounds: list[float], made: dict[Value, Op], found: dict[Value, float]
) -> float:
    if op.kind in WITHIN_ONE:
        return 1.0
    if op.kind == "constant":
        return abs(op.float_attr("value"))
    if op.kind == "mul":
        return prod(bounds) if max(bounds) < inf else inf
    if op.kind == "scale":
        return bounds[0] * abs(op.float_attr("factor"))
    if op.kind == "add" and (between := _between(op, made, found)):
        return max(found.get(v, inf) for v in between)
    if op.kind in ("add", "sub"):
        return sum(bounds)
    if op.kind == "where":
        return max(bounds[1:])
    if op.kind == "cat":
        return max(bounds)
    return bounds[0] if has(op, Trait.MOVES) or op.kind in ("cast", "relu", CARRIED) else inf


def _between(op: Op, made: dict[Value, Op], found: dict[Value, float]) -> tuple[Value, ...]:
    """The ends of n + u (h - n), where u is a share; none of other sums."""
    n, product = op.inputs
    part = made.get(product)
    if part is None or part.kind != "mul" or found.get(part.inputs[0], inf) > 1.0:
        return ()
    u, apart = (made.get(v) for v in part.inputs)
    share = u is not None and u.kind == "sigmoid"
    if not share or apart is None or apart.kind != "sub" or apart.inputs[1] is not n:
        return ()
    return n, apart.inputs[0]


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
