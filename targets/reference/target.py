"""The ``reference`` target: interprets a program with NumPy, op by op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...compiler.ir import Program, Value
from ...compiler.types import TensorType
from ..numbers.packing import from_memory, to_memory
from ..numbers.tensor import Tensor
from ..plan.halves import halves
from ..plan.layout import Layout, Order
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
        values = _given(self.program, inputs)
        values |= {
            v.name: from_memory(before[v.name], Layout(v.type, Order.ROWS))
            for v in self.program.state
        }
        made = evaluate(self.program, values, keep=False)
        for s, v in self.program.next:
            after[s.name][...] = to_memory(made[v], Layout(s.type, Order.ROWS)).reshape(
                after[s.name].shape
            )
        return _taken(self.program, made)


class HalvedInterpreter:
    """See ``HalvedExecutable``; a forward leaves copies of its inputs, and backward repeats it."""

    def __init__(self, program: Program) -> None:
        self.plan, (self.first, self.second) = None, halves(program)
        self._whole = replace(program, outputs=self.second.outputs)

    def forward(self, inputs: Sequence[object]) -> tuple[tuple[np.ndarray, ...], Block]:
        """See ``HalvedExecutable``."""
        values = _given(self.first, [np.asarray(x).copy() for x in inputs])
        return _taken(self.first, evaluate(self.first, values, keep=False)), values

    def backward(self, inputs: Sequence[object], held: Block) -> tuple[np.ndarray, ...]:
        """See ``HalvedExecutable``."""
        values = {**held, **_given(self.second, inputs)}
        return _taken(self.second, evaluate(self._whole, values, keep=False))


def _given(program: Program, inputs: Sequence[object]) -> dict[str, Tensor]:
    given = zip(program.inputs, map(np.asarray, inputs), strict=True)
    return {v.name: _stored(v.type, a) for v, a in given}


def _taken(program: Program, made: Mapping[Value, Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(made[v].data) for v in program.outputs)


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


def bind_halves(program: Program, options: BindOptions, memory: TargetMemory) -> HalvedInterpreter:
    """The interpreter that waits behind the forward."""
    return HalvedInterpreter(program)
