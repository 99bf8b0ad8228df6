"""Weights that swing between two codes are set onto one of them: OsciReset.

"TetraJet-v2: Accurate NVFP4 Training for Large Language Models with Oscillation Suppression and
Outlier Control" (Chen et al., 2025; arXiv 2510.27527), as its authors' program has it.

    step, from the start on, modulo the period    what happens behind the update
    1 .. window                                   moved += |w' - w|, swung += |Q(w') - Q(w)|
    window + 1                                    w' = Q(w') where moved > 0 and
                                                  swung / moved >= threshold
    any other                                     moved = swung = 0

Q is what forward makes of a weight: its codes, as numbers. What lies in the middle between two
codes turns from one to the other by steps much smaller than their distance.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.ir import Attr, Op, Program, Value, attrs, unused
from ..compiler.ir.ops import BETWEEN_ACTIVATIONS, FORWARD_GEMMS, OPS
from ..compiler.types import SCALAR, TensorType
from .parts.optimized import updates, widened
from .parts.options import require
from .parts.order import Makes, placed
from .parts.schedules import INTEGER, TOTAL, step_counter

NAME = "oscillation_reset"
RESETS = "resets"
PARTS = 1_000_000  # a share of a run is counted in millionths


@placed(after=(Makes.CODES, "carrier", "recompute"))
def oscillation_reset(
    program: Program,
    *,
    oscillation_reset: bool = True,
    reset_start: int = 0,
    reset_share: float = 0.64,
    reset_every: int = 200,
    reset_window: int = 50,
    reset_ratio: float = 8.0,
    steps: int = 0,
) -> Program:
    """Watch the weights of all layers that read codes of them, and reset those that swing.

    The first period begins with step ``reset_start``; where that is 0, behind ``reset_share`` of
    the run, whose length is the state ``schedule.total``: ``steps``, and where that is 0 nothing is
    reset until ``run`` gives it. The state ``resets`` counts. RecipeError for periods that hold no
    window, and for numbers that are none.
    """
    require(reset_window >= 1, f"reset_window={reset_window} must be at least 1")
    fits = reset_every >= reset_window + 2
    require(fits, f"reset_every={reset_every} must be at least reset_window + 2")
    require(0 <= reset_share < 1, f"reset_share={reset_share:g} must be in 0 .. 1")
    require(min(reset_start, steps) >= 0, f"reset_start={reset_start}, steps={steps} are below 0")
    require(reset_ratio > 0, f"reset_ratio={reset_ratio:g} must be positive")
    found = {op: chain for op in updates(program) if (chain := _chain(program, op.inputs[0]))}
    if not (oscillation_reset and found):
        return program.done(NAME)
    work = _Resets(program, reset_window, reset_ratio)
    work.phases(reset_start, reset_share, reset_every)
    for op, chain in found.items():
        work.watch(op, chain)
    return work.finished(steps)


def _chain(program: Program, weight: Value) -> tuple[Op, ...]:
    """The ops of forward that make the codes which a product reads of a weight; none without."""
    forward, of_weight = program.region("forward").ops, {weight}
    codes: Value | None = None
    for op in forward:
        if codes is None and op.kind in FORWARD_GEMMS - BETWEEN_ACTIVATIONS:
            read = op.inputs[1]
            shaped = read.type.format.is_coded and read.type.shape == weight.type.shape
            codes = read if read in of_weight and shaped else None
        elif of_weight.intersection(op.inputs) and not OPS[op.kind].random:
            of_weight.update(op.results)
    ops, needed = list[Op](), {codes}
    for op in reversed(forward):
        if needed.intersection(op.results) and of_weight.issuperset(op.results):
            needed.update(op.inputs)
            ops.append(op)
    return tuple(reversed(ops))


class _Resets:
    """The ops behind the update, and the states that they keep."""

    def __init__(self, program: Program, window: int, ratio: float) -> None:
        self.program, self.window, self.ratio = program, window, ratio
        self.taken, self.ops = program.names(), list[Op]()
        self.step = step_counter(program, NAME)
        self.total = Value(TOTAL, INTEGER)
        self.ends: dict[Value, Value] = {}  # what a weight is after the step
        self.sums: list[tuple[Value, Value]] = []
        self.counted: list[Value] = []

    def phases(self, start: int, share: float, every: int) -> None:
        """Whether a step is in the window, and whether it is the one behind it."""
        self.by_share = not start
        if start:
            first = self.number("start", "whole_table", numbers=(start,))
        else:
            parts = self.number("parts", "whole_table", numbers=(round(share * PARTS),))
            product = self.number("product", "whole", self.total, parts, function="mul")
            first = self.number("start", "whole_divided", product, by=PARTS, rest=False)
        since = self.number("since", "whole", self.step, first, function="sub")
        phase = self.number("phase", "whole_divided", since, by=every, rest=True)
        none, one, last, end = (
            self.number(f"of{n}", "whole_table", numbers=(n,))
            for n in (0, 1, self.window, self.window + 1)
        )
        begun = self.truth("begun", since, none, "ge")
        if self.by_share:
            known = self.truth("known", self.total, none, "gt")
            begun = self.op("mul", "resets.both", SCALAR, begun, known)
        ends = self.truth("late", phase, one, "ge"), self.truth("early", phase, last, "le")
        within = self.op("mul", "resets.within", SCALAR, *ends)
        inside = self.op("mul", "resets.inside", SCALAR, begun, within)
        now = self.truth("end", phase, end, "eq")
        self.due = self.op("mul", "resets.due", SCALAR, begun, now)
        self.outside = self.op(
            "compare_to", "resets.outside", SCALAR, inside, relation="eq", value=0.0
        )

    def watch(self, update: Op, chain: tuple[Op, ...]) -> None:
        """Add up how far a weight and its codes go, and reset it where it is due."""
        weight, after = update.inputs[0], update.result
        name, type_, origin = weight.name, weight.type, chain[-1].origin
        before = self.op("dequantize", f"{name}.coded", type_, chain[-1].result, origin=origin)
        then = self.coded(weight, after, chain)
        far = self.distance(f"{name}.moved", after, weight, origin)
        swung = self.distance(f"{name}.swung", then, before, origin)
        ratio = self.op("div", f"{name}.ratio", type_, swung, far, origin=origin)
        swings = self.op(
            "compare_to", f"{name}.swings", type_, ratio,
            origin=origin, relation="ge", value=float(self.ratio),
        )  # fmt: skip
        moves = self.op(
            "compare_to", f"{name}.moves", type_, far, origin=origin, relation="gt", value=0.0
        )
        both = self.op("mul", f"{name}.both", type_, swings, moves, origin=origin)
        due = self.wide(self.due, weight, origin)
        chosen = self.op("mul", f"{name}.chosen", type_, both, due, origin=origin)
        self.ends[after] = self.op(
            "where", f"{name}.reset", type_, chosen, then, after, origin=origin
        )
        dims = tuple(range(len(type_.shape)))
        self.counted.append(
            self.op(
                "sum", f"{name}.resets", SCALAR, chosen, origin=origin, dims=dims, keepdim=False
            )
        )

    def coded(self, weight: Value, after: Value, chain: tuple[Op, ...]) -> Value:
        """What forward would make of a weight after the step."""
        new = {weight: after}
        for op in chain:
            for r in op.results:
                new[r] = Value(unused(f"{r.name}.after", self.taken), r.type)
            inputs = tuple(new.get(v, v) for v in op.inputs)
            self.ops.append(replace(op, inputs=inputs, results=tuple(new[r] for r in op.results)))
        codes, origin = new[chain[-1].result], chain[-1].origin
        return self.op("dequantize", f"{weight.name}.after", weight.type, codes, origin=origin)

    def distance(self, name: str, to: Value, of: Value, origin: str) -> Value:
        """The state of how far something went in the window, and a step more of it."""
        type_ = to.type
        so_far = Value(unused(name, self.taken), type_)
        away = self.op("sub", f"{name}.away", type_, to, of, origin=origin)
        size = self.op("abs", f"{name}.step", type_, away, origin=origin)
        more = self.op("add", f"{name}.more", type_, so_far, size, origin=origin)
        outside = self.wide(self.outside, so_far, origin)
        after = self.op("masked", f"{name}.next", type_, outside, more, origin=origin, value=0.0)
        self.sums.append((so_far, after))
        return so_far

    def finished(self, steps: int) -> Program:
        """The program with the ops, the new states and the weights that follow."""
        resets = Value(unused(RESETS, self.taken), INTEGER)
        total = resets
        for n in self.counted:
            whole = self.number("whole", "to_whole", n)
            total = self.number("count", "whole", total, whole, function="add")
        states = dict.fromkeys((s for s, _ in self.sums), 0.0) | {resets: 0.0}
        if self.by_share and self.total not in self.program.state:
            states[self.total] = float(steps)
        out = self.program.with_state(states).append("update", tuple(self.ops))
        pairs = [(state, self.ends.get(v, v)) for state, v in out.next]
        pairs += [*self.sums, (resets, total)]
        return replace(out, next=tuple(pairs)).done(NAME)

    def op(
        self,
        kind: str,
        name: str,
        type_: TensorType,
        *x: Value,
        origin: str = "optimizer",
        **more: Attr,
    ) -> Value:
        """Append an op of the update."""
        made = Value(unused(name, self.taken), type_)
        self.ops.append(Op(kind, x, (made,), attrs(**more), origin))
        return made

    def number(self, name: str, kind: str, *x: Value, **more: Attr) -> Value:
        """Append an op that makes an integer."""
        return self.op(kind, f"{RESETS}.{name}", INTEGER, *x, **more)

    def truth(self, name: str, a: Value, b: Value, relation: str) -> Value:
        """Append a comparison of two integers."""
        return self.op("whole_compare", f"{RESETS}.{name}", SCALAR, a, b, relation=relation)

    def wide(self, number: Value, like: Value, origin: str) -> Value:
        """A number at every place."""
        made, ops = widened(number, like, origin, self.taken)
        self.ops += ops
        return made
