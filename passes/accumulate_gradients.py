"""Gradients summed over several batches before one update, as ``backward`` without ``step`` does.

    total = accumulated + gradient / batches
    in the last of ``batches`` steps    the optimizer runs on total; accumulated' = 0
    in the others                       accumulated' = total; what the optimizer makes stays

Running statistics, gradient scales and random masks change in every step. Turns are those of the
program's own steps; the optimizer's count is that of its updates, those of before it included.
"""

from __future__ import annotations

from dataclasses import replace

import networkx as nx

from ..compiler.formats import F32
from ..compiler.ir import OPTIMIZER_STEP, STEP, Op, Program, Region, Value, attrs, unused
from ..compiler.ir.analysis import graph
from ..compiler.types import TensorType
from .parts.optimized import gradient, updates, widened, with_gradients
from .parts.options import require
from .parts.order import placed


@placed(after=("average_weights",))
def accumulate_gradients(program: Program, *, batches: int = 1) -> Program:
    """Let the optimizer run once in ``batches`` steps, on the mean of their gradients."""
    require(batches >= 1, f"batches={batches} of accumulate_gradients is not at least 1")
    trained = updates(program, clips=True)
    if batches > 1 and trained:
        program = _Accumulation(program, trained, batches).run()
    return program.done("accumulate_gradients")


class _Accumulation:
    """The pass, with the names that it has given."""

    def __init__(self, program: Program, trained: tuple[Op, ...], batches: int) -> None:
        self.program, self.trained, self.batches = program, trained, batches
        self.taken = program.names()
        (self.step,) = (v for v in program.state if v.name == STEP)
        self.turn = Value(unused("accumulate.turn", self.taken), TensorType((), F32))
        self.count = Value(unused("accumulate.updates", self.taken), self.step.type)
        self.totals: dict[Value, Value] = {}
        self.sums: dict[Value, Value] = {}

    def run(self) -> Program:
        """Sums ahead of the optimizer, choices behind it."""
        ops = self.sum_up()
        counted = self.program.rewrite(self.rule)
        changed = {op.result: self.totals[op.inputs[0]] for op in self.trained}
        after = with_gradients(counted, changed, ops)
        return self.choose(after.with_state(dict.fromkeys(self.sums, 0.0)))

    def sum_up(self) -> list[Op]:
        """Whose turn it is, how many updates there were, and the sums so far."""
        last = attrs(of=self.batches, at=self.batches - 1)
        ops = [Op("turn", (self.step,), (self.turn,), last, "optimizer")]
        if any(self.reads_count(op) for op in self.program.region("update").ops):
            by = attrs(by=self.batches)
            ops.append(Op("ratio", (self.step,), (self.count,), by, "optimizer"))
        for op in self.trained:
            weight, origin = op.inputs[0], op.origin
            held, share, total = (
                Value(unused(f"{weight.name}.accumulated{end}", self.taken), weight.type)
                for end in ("", ".share", ".total")
            )
            factor = attrs(factor=1 / self.batches)
            wide, widening = widened(self.turn, held, origin, self.taken)
            rest = Value(unused(f"{held.name}.next", self.taken), held.type)
            ops += [
                *widening,
                Op("scale", (gradient(op),), (share,), factor, origin),
                Op("add", (held, share), (total,), origin=origin),
                Op("masked", (wide, total), (rest,), attrs(value=0.0), origin),
            ]
            self.totals[weight], self.sums[held] = total, rest
        return ops

    def reads_count(self, op: Op) -> bool:
        """Whether an op of the update asks for the number of updates; RMSprop does not."""
        return op.kind not in ("increment", "range_test") and self.step in op.inputs

    def counter(self, op: Op) -> tuple[Op, ...] | None:
        """A count of the optimizer's own goes on in its turn alone; None for any other op."""
        if op.kind == "increment" and op.inputs[0].name == OPTIMIZER_STEP:
            return (replace(op, kind="count_where", inputs=(op.inputs[0], self.turn)),)
        if op.kind != "count_where":
            return None
        count, where = op.inputs
        both = Value(unused(f"{count.name}.turn", self.taken), where.type)
        product = Op("mul", (where, self.turn), (both,), origin=op.origin)
        return (product, replace(op, inputs=(count, both)))

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        """Everything in the update but what counts or tests steps reads the count of updates."""
        if region.name != "update":
            return None
        if not self.reads_count(op):
            return self.counter(op)
        inputs = tuple(self.count if v is self.step else v for v in op.inputs)
        return (replace(op, inputs=inputs),)

    def choose(self, program: Program) -> Program:
        """What follows from the optimizer becomes the next state only in the last step.

        Each choice stands behind what it is made of, which no memory is to hold for longer.
        """
        flow = graph(program)
        made = updates(program, clips=True)
        behind = {*made, *(d for op in made for d in nx.descendants(flow, op))}
        makers, pairs = program.producers(), list[tuple[Value, Value]]()
        choices: dict[tuple[Value, ...], list[Op]] = {}
        for state, after in program.next:
            op = makers.get(after)
            if op is None or op not in behind:
                pairs.append((state, after))
                continue
            wide, widening = widened(self.turn, state, op.origin, self.taken)
            kept = Value(unused(f"{state.name}.kept", self.taken), state.type)
            choice = Op("where", (wide, after, state), (kept,), origin=op.origin)
            choices.setdefault(op.results, []).extend((*widening, choice))
            pairs.append((state, kept))
        chosen = program.rewrite(lambda _, op: (op, *choices.get(op.results, ())))
        return replace(chosen, next=(*pairs, *self.sums.items()))
