"""A training program in two: its forward, and what follows when the gradients have come.

Any number of forwards may come ahead of their backwards: what each leaves lies in an arena of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ...compiler.ir import Program, Region, Value
from .memory import ALIGNMENT
from .plan import Plan
from .pool import Block, TargetMemory
from .state import state_layout


def halves(program: Program) -> tuple[Program, Program]:
    """The forward, and the rest; each with the inputs that it reads and the outputs that it makes.

    The second one reads values of the first one's as well, which are none of its inputs.
    """
    forward = program.region("forward")
    rest = tuple(r for r in program.regions if r.name != "forward")
    later = {v for r in rest for op in r.ops for v in op.results}
    made = tuple(v for v in program.outputs if v not in later)
    behind = tuple(v for v in program.outputs if v in later)
    return _part(program, (forward,), made), _part(program, rest, behind)


def _part(program: Program, regions: tuple[Region, ...], outputs: tuple[Value, ...]) -> Program:
    read = {*outputs, *(v for r in regions for op in r.ops for v in op.inputs)}
    inputs = tuple(v for v in program.inputs if v in read)
    return replace(program, inputs=inputs, regions=regions, outputs=outputs)


def half_plans(plan: Plan) -> tuple[Plan, Plan]:
    """The plan of each half; what one leaves in the arena the other one finds there."""
    first, second = halves(plan.program)
    return _planned(plan, first), _planned(plan, second)


def _planned(plan: Plan, part: Program) -> Plan:
    regions = {r.name for r in part.regions}
    kernels = tuple(k for k in plan.kernels if k.region in regions)
    # A kernel reads an input through views too, which the program may name alone.
    places = {plan.places[slot].where for k in kernels for slot in k.kernel.slots}
    known = {v.name for v in part.inputs}
    inputs = tuple(v for v in plan.program.inputs if v.name in known or v.name in places)
    return replace(plan, program=replace(part, inputs=inputs), kernels=kernels)


class RunsInArena(Protocol):
    """An executable that can be given its arena."""

    program: Program

    def run(
        self, inputs: Sequence[object], old: Block, new: Block, *, arena: Block
    ) -> tuple[np.ndarray, ...]:
        """Run once; see ``Executable``."""


class Halved:
    """Two executables that take turns in an arena; their program has no state."""

    def __init__(
        self, plan: Plan, first: RunsInArena, second: RunsInArena, memory: TargetMemory
    ) -> None:
        self.plan, self._first, self._second, self._memory = plan, first, second, memory
        self.first, self.second = first.program, second.program
        self._none = memory.block(state_layout(plan.program).bytes)

    def forward(self, inputs: Sequence[object]) -> tuple[tuple[np.ndarray, ...], Block]:
        """See ``HalvedExecutable``."""
        arena = self._memory.lend(max(self.plan.arena, ALIGNMENT))
        return self._first.run(inputs, self._none, self._none, arena=arena), arena

    def backward(self, inputs: Sequence[object], held: Block) -> tuple[np.ndarray, ...]:
        """See ``HalvedExecutable``."""
        made = self._second.run(inputs, self._none, self._none, arena=held)
        self._memory.take_back(held)
        return made
