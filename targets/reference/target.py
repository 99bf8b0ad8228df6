"""The ``reference`` target: interprets a program with NumPy, op by op."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.ir import Program
from ...compiler.types import TensorType
from ..numbers.tensor import Tensor
from ..plan.pool import Block, HostMemory, TargetMemory
from ..plan.state import StateLayout
from ..registry import BindOptions
from .evaluate import evaluate


class Interpreter:
    """A program that ``run`` interprets."""

    def __init__(self, program: Program, state: StateLayout) -> None:
        self.program, self.plan, self._state = program, None, state

    def run(self, inputs: Sequence[object], old: Block, new: Block) -> tuple[np.ndarray, ...]:
        """See ``Executable.run``."""
        before, after = self._state.views(old), self._state.views(new)
        given = zip(self.program.inputs, map(np.asarray, inputs), strict=True)
        values = {v.name: _stored(v.type, a) for v, a in given}
        values |= {v.name: _stored(v.type, before[v.name]) for v in self.program.state}
        made = evaluate(self.program, values, keep=False)
        for s, v in self.program.next:
            after[s.name][...] = made[v].data
        return tuple(np.array(made[v].data) for v in self.program.outputs)


def _stored(type_: TensorType, array: np.ndarray) -> Tensor:
    return Tensor(type_, array, None)


def plan(program: Program, state: StateLayout, options: BindOptions) -> None:
    """An interpreter chooses no kernels."""


def memory(options: BindOptions) -> HostMemory:
    """NumPy's."""
    return HostMemory()


def bind(
    program: Program, state: StateLayout, options: BindOptions, memory: TargetMemory
) -> Interpreter:
    """Bind ``program``; nothing is built, so neither options nor pool matter."""
    return Interpreter(program, state)
