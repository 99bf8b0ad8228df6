"""Evaluations that draw random numbers."""

from __future__ import annotations

from ..compiler.ir import SEED, Program
from ..targets.plan.pool import Block, TargetMemory
from ..targets.plan.state import StateLayout
from .state import stored_seed

DRAWS = ("random_mask", "random_uniform")


def draws(program: Program) -> bool:
    """Whether a program as it was captured draws."""
    return any(op.kind in DRAWS for _, op in program.ops())


class FreshSeeds:
    """State of an evaluation that draws: of every run another seed, as eager draws at each call.

    The training step's own seed stays, so that what is predicted meanwhile changes no training.
    """

    def __init__(self, layout: StateLayout, memory: TargetMemory) -> None:
        self._layout, self._memory, self._runs = layout, memory, 0
        self._block = memory.block(layout.bytes)

    def state(self, held: Block) -> Block:
        """A copy of ``held`` with a seed that no run before had."""
        self._runs += 1
        state = self._memory.read(held, 0, self._layout.bytes)
        seed = self._layout.view(state, SEED)
        seed[...] = stored_seed(int(seed) + (self._runs << 32))
        self._memory.write(self._block, 0, state)
        return self._block
