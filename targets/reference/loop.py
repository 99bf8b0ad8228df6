"""Reference of loops over time steps: the ops at their borders, and what runs the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence

import numpy as np

from ...compiler.ir import Op, Value
from ...compiler.ir.loops import COUNTER, FEED, Loop, ProgramLoops
from ..numbers.tensor import Tensor
from .frame import Meaning

RunOp = Callable[[Op, Sequence[Tensor]], tuple[Tensor, ...]]
ByStep = dict[int, Tensor]  # by step


def rows_of_step(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The part of each step is as long as the result."""
    x, t = inputs
    rows = op.result.type.shape[0]
    start = int(t.data) * rows
    return (Tensor(op.result.type, x.data[start : start + rows], x.scale),)


def all_steps(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of the values of all steps, in the place of one; their scales are alike."""
    *parts, _ = inputs
    # What no loop makes is the same in all of them.
    parts *= op.result.type.shape[0] // (len(parts) * parts[0].data.shape[0])
    data = np.concatenate([p.data for p in parts])
    return (Tensor(op.result.type, data, parts[0].scale),)


def first_step(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A counter as it starts."""
    start = op.int_attr("count") - 1 if op.bool_attr("reverse") else 0
    return (Tensor.from_numbers(op.result.type, np.array(start)),)


def the_first(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What is carried, in the first step."""
    return (inputs[0],)


def the_next(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What feeds a loop in its last step."""
    return (inputs[1],)


LOOP: dict[str, Meaning] = {
    COUNTER: first_step,
    "rows_of_step": rows_of_step,
    "carried": the_first,
    FEED: the_next,
    "all_steps": all_steps,
}


class LoopValues:
    """The values of each step so far; ``env`` holds all other values, and of those step 0."""

    def __init__(self, loops: ProgramLoops, env: MutableMapping[Value, Tensor], run: RunOp) -> None:
        self.loops, self.env, self.run = loops, env, run
        self.steps: dict[Value, ByStep] = {}

    def outside(self, op: Op) -> None:
        """RunOp an op that is in no loop, also one at the border of one."""
        if op.kind == COUNTER:
            loop = self.loops.of[op.result]
            numbers = {t: _whole(op.result, t) for t in loop.order}
            self._made(op.result, numbers)
        elif op.kind == "rows_of_step":
            x, counter = op.inputs
            ts = self.steps[counter]
            self._made(op.result, {t: self.run(op, (self.env[x], n))[0] for t, n in ts.items()})
        elif op.kind == "carried":
            self.env[op.result] = self.env[op.inputs[0]]
        elif op.kind == FEED:
            last = self.steps[op.inputs[1]][self.loops.of[op.inputs[1]].order[-1]]
            self.env[op.result] = last
        elif op.kind == "all_steps":
            found = self.steps[op.inputs[0]]
            parts = [found[t] for t in sorted(found)]
            (self.env[op.result],) = self.run(op, (*parts, parts[0]))
        else:
            made = self.run(op, [self.env[v] for v in op.inputs])
            self.env.update(zip(op.results, made, strict=True))

    def loop(self, loop: Loop, body: Sequence[Op]) -> None:
        """RunOp all steps of a loop."""
        carried = {x: f for x, f in self.loops.feeds.items() if self.loops.of[x] is loop}
        now = {x: self.env[x] for x in carried}
        made: dict[Value, ByStep] = {r: {} for op in body for r in op.results}
        made |= {x: {} for x in carried}
        for t in loop.order:
            for x, tensor in now.items():
                made[x][t] = tensor
            for op in body:
                inputs = [self._at(v, t, made) for v in op.inputs]
                for r, tensor in zip(op.results, self.run(op, inputs), strict=True):
                    made[r][t] = tensor
            now = {x: self._at(feed.inputs[1], t, made) for x, feed in carried.items()}
        for v, steps in made.items():
            self._made(v, steps)

    def forget(self, v: Value) -> None:
        """Let go of a value that nothing reads any more."""
        del self.env[v]
        self.steps.pop(v, None)

    def _at(self, v: Value, t: int, made: Mapping[Value, ByStep]) -> Tensor:
        if v in made:
            return made[v][t]
        return self.steps[v][t] if v in self.steps else self.env[v]

    def _made(self, v: Value, steps: ByStep) -> None:
        self.steps[v] = steps
        self.env[v] = steps[0]


def _whole(counter: Value, t: int) -> Tensor:
    return Tensor.from_numbers(counter.type, np.array(t))
