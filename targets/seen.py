"""What a target lets be seen of a run: the values between its kernels, or what a run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from ..compiler.ir import Program, Value
from .numbers.packing import aligned_array, from_stored, stored
from .numbers.tensor import Tensor
from .plan.pool import read_all
from .plan.state import state_layout
from .registry import BindOptions, Target


@dataclass(frozen=True, slots=True)
class Seen:
    """The values of one run that could be looked at, of a loop's those of its step 0.

    ``kernels`` says which kernel made a value, and of which ops.
    """

    values: Mapping[Value, Tensor]
    kernels: Mapping[Value, str]


class SeeingModule(Protocol):
    """What the module offers by which a target lets its values be seen."""

    def seen(self, program: Program, given: Mapping[str, Tensor], options: BindOptions) -> Seen:
        """Run ``program`` once on its inputs and state, by name."""


def seen(
    target: Target, program: Program, given: Mapping[str, Tensor], options: BindOptions
) -> Seen:
    """All values of one run that can be looked at; of a target that lets none be seen its ends.

    Ends are the outputs and the next state. ``program`` is as ``Target.lower`` leaves it.
    """
    if target.sees is None:
        return _ends_of(target, program, given, options)
    module = cast(SeeingModule, import_module(target.sees, __package__))
    return module.seen(program, given, target.own(options))


def _ends_of(
    target: Target, program: Program, given: Mapping[str, Tensor], options: BindOptions
) -> Seen:
    """Inputs, state, outputs and the next state of one run."""
    layout, memory = state_layout(program), target.memory(options)
    old, new = (memory.block(layout.bytes) for _ in range(2))
    for v in program.state:
        memory.write(old, layout.offsets[v.name], stored(given[v.name]))
    inputs = [aligned_array(given[v.name]) for v in program.inputs]
    made = target.bind(program, layout, options, memory).run(inputs, old, new)
    values = {v: given[v.name] for v in (*program.inputs, *program.state)}
    next_ = read_all(memory, layout, new)
    found = [*zip(program.outputs, made, strict=True)]
    found += [(v, next_[s.name]) for s, v in program.next]
    values |= {v: from_stored(v.type, array) for v, array in found}
    return Seen(values, {})
