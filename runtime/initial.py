"""What a program says of its state: how it lies, what settles a step, where its numbers start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..compiler.ir import SEED, Program
from ..compiler.types import TensorType
from ..passes.skip_nonfinite import reacting, skip_counter
from ..targets.numbers.packing import to_memory
from ..targets.numbers.tensor import Tensor
from ..targets.plan.layout import Layout, Order
from ..targets.plan.state import Unapplied, state_layout
from .moments import in_codes
from .state import stored_seed


def kept_of(program: Program) -> Unapplied:
    """The layout of the state, and what a step that is not applied still writes."""
    count = skip_counter(program)
    names = tuple(v.name for v in reacting(program))
    return Unapplied(state_layout(program), count.name if count else "", names)


def initial_state(
    program: Program, given: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """``given``, and where it says nothing the program's numbers and ``seed``."""
    types = {v.name: v.type for v in program.state}
    seeds = {SEED: stored_seed(seed)} if SEED in types else {}
    numbers = {name: _full(types[name], number) for name, number in program.initial.items()}
    return {**numbers, **seeds, **in_codes(types, given)}


def _full(type_: TensorType, number: float) -> np.ndarray:
    """A number at all places, as it is stored."""
    layout = Layout(type_, Order.ROWS)
    numbers = Tensor.from_numbers(type_, np.full(type_.shape, number, np.float64))
    return to_memory(numbers, layout).reshape(layout.stored_shape)
