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

from ..compiler.formats import I64
from ..compiler.ir import Op, Program, Value, unused
from ..compiler.ir.ops import BETWEEN_ACTIVATIONS, FORWARD_GEMMS, OPS
from .parts.appended import Appended
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
    require(0 <= reset_share < 1, f"reset_share={reset_share:g} must be at least 0 and below 1")
    require(min(reset_start, steps) >= 0, f"reset_start={reset_start}, steps={steps} are below 0")
    require(reset_ratio > 0, f"reset_ratio={reset_ratio:g} must be positive")
    found = {op: chain for op in updates(program) if (chain := _chain(program, op.inputs[0]))}
    if not (oscillation_reset and found):
        return program.done(NAME)
    work = _Resets(program, reset_window, reset_ratio)
    given = work.phases(reset_start, reset_share, reset_every)
    for op, chain in found.items():
        work.watch(op, chain)
    return work.finished(dict.fromkeys(given, float(steps)))


def _chain(program: Program, weight: Value) -> tuple[Op, ...]:
    """The quantizers of forward that make the codes which a product reads of a weight.

    None where there are none, or where the codes are those of a function of the weight, such as
    DoReFa's tanh: their numbers are none that it could be set to.
    """
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
    own = all(OPS[op.kind].family == "quantizers" for op in ops)
    return tuple(reversed(ops)) if own else ()


class _Resets:
    """The ops behind the update, and the states that they keep."""

    def __init__(self, program: Program, window: int, ratio: float) -> None:
        self.program, self.window, self.ratio = program, window, ratio
        self.taken = program.names()
        self.all = Appended(self.taken, "optimizer")
        self.step = step_counter(program, NAME)
        self.ops: list[Op] = []
        self.ends: dict[Value, Value] = {}  # what a weight is after the step
        self.sums: list[tuple[Value, Value]] = []
        self.counted: list[Value] = []

    def phases(self, start: int, share: float, every: int) -> dict[Value, float]:
        """Find whether a step is in the window or the one behind it; the state that this takes."""
        total, new = Value(TOTAL, INTEGER), self.all
        none, one, last, end = map(self._integer, (0, 1, self.window, self.window + 1))
        if start:
            first = self._integer(start)
        else:
            parts = self._integer(round(share * PARTS))
            product = new("whole", f"{RESETS}.product", (), total, parts, f=I64, function="mul")
            first = new(
                "whole_divided", f"{RESETS}.start", (), product, f=I64, by=PARTS, rest=False
            )
        since = new("whole", f"{RESETS}.since", (), self.step, first, f=I64, function="sub")
        phase = new("whole_divided", f"{RESETS}.phase", (), since, f=I64, by=every, rest=True)
        begun = self._is("begun", since, none, "ge")
        if not start:
            begun = self._both("known", begun, self._is("given", total, none, "gt"))
        late, early = self._is("late", phase, one, "ge"), self._is("early", phase, last, "le")
        inside = self._both("inside", begun, self._both("within", late, early))
        self.due = self._both("due", begun, self._is("end", phase, end, "eq"))
        self.outside = new("compare_to", f"{RESETS}.outside", (), inside, relation="eq", value=0.0)
        known = start or total in self.program.state
        return {} if known else {total: 0.0}

    def watch(self, update: Op, chain: tuple[Op, ...]) -> None:
        """Add up how far a weight and its codes go, and reset it where it is due."""
        weight, after = update.inputs[0], update.result
        name, shape = weight.name, weight.type.shape
        new = Appended(self.taken, chain[-1].origin)
        before = new("dequantize", f"{name}.coded", shape, chain[-1].result)
        then = self._coded(new, weight, after, chain)
        far = self._distance(new, f"{name}.moved", after, weight)
        swung = self._distance(new, f"{name}.swung", then, before)
        ratio = new("div", f"{name}.ratio", shape, swung, far)
        swings = new(
            "compare_to", f"{name}.swings", shape, ratio, relation="ge", value=float(self.ratio)
        )
        moves = new("compare_to", f"{name}.moves", shape, far, relation="gt", value=0.0)
        both = new("mul", f"{name}.both", shape, swings, moves)
        chosen = new("mul", f"{name}.chosen", shape, both, self._wide(new, self.due, weight))
        self.ends[after] = new("where", f"{name}.reset", shape, chosen, then, after)
        dims = tuple(range(len(shape)))
        many = new("sum", f"{name}.resets", (), chosen, dims=dims, keepdim=False)
        self.counted.append(many)
        self.ops += new.ops

    def _coded(self, new: Appended, weight: Value, after: Value, chain: tuple[Op, ...]) -> Value:
        """What forward would make of a weight after the step."""
        swap = {weight: after}
        for op in chain:
            swap |= {r: Value(unused(f"{r.name}.after", self.taken), r.type) for r in op.results}
            inputs = tuple(swap.get(v, v) for v in op.inputs)
            new.ops.append(replace(op, inputs=inputs, results=tuple(swap[r] for r in op.results)))
        codes = swap[chain[-1].result]
        return new("dequantize", f"{weight.name}.after", weight.type.shape, codes)

    def _distance(self, new: Appended, name: str, to: Value, of: Value) -> Value:
        """The state of how far something went in the window; a step more of it follows."""
        shape = to.type.shape
        so_far = new.new(name, shape)
        size = new("abs", f"{name}.step", shape, new("sub", f"{name}.away", shape, to, of))
        more = new("add", f"{name}.more", shape, so_far, size)
        outside = self._wide(new, self.outside, so_far)
        self.sums.append((so_far, new("masked", f"{name}.next", shape, outside, more, value=0.0)))
        return so_far

    def finished(self, given: dict[Value, float]) -> Program:
        """The program with the ops, the new states and the weights that follow."""
        count = Appended(self.taken, "optimizer")
        total = resets = count.new(RESETS, (), I64)
        for n in self.counted:
            whole = count("to_whole", f"{RESETS}.whole", (), n, f=I64)
            total = count("whole", f"{RESETS}.count", (), total, whole, f=I64, function="add")
        states = dict.fromkeys((s for s, _ in self.sums), 0.0) | {resets: 0.0} | given
        ops = (*self.all.ops, *self.ops, *count.ops)
        out = self.program.with_state(states).append("update", ops)
        pairs = [(state, self.ends.get(v, v)) for state, v in out.next]
        return replace(out, next=(*pairs, *self.sums, (resets, total))).done(NAME)

    def _integer(self, n: int) -> Value:
        return self.all("whole_table", f"{RESETS}.of{n}", (), f=I64, numbers=(n,))

    def _is(self, name: str, a: Value, b: Value, relation: str) -> Value:
        return self.all("whole_compare", f"{RESETS}.{name}", (), a, b, relation=relation)

    def _both(self, name: str, a: Value, b: Value) -> Value:
        return self.all("mul", f"{RESETS}.{name}", (), a, b)

    def _wide(self, new: Appended, number: Value, like: Value) -> Value:
        """A number at every place."""
        made, ops = widened(number, like, new.origin, self.taken)
        new.ops += ops
        return made
