"""A graph for arguments of some shapes: opened, bound to its target, fed with tensors.

A tensor is read where it lies at each call, so that nobody's update is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np
import torch

from ...compiler.capture.handed import HandedCapture
from ...compiler.errors import InputError
from ...compiler.ir import SEED, Program, Value
from ...passes.recipe import Recipe
from ...targets.plan.layout import DTYPES as STORED
from ...targets.plan.memory import ALIGNMENT
from ...targets.plan.pool import Block, TargetMemory
from ...targets.plan.state import aligned_bytes, state_layout
from ...targets.registry import BindOptions, Executable, HalvedExecutable, find_target
from ..fresh import draws
from ..inputs import DTYPES, to_torch
from ..state import stored_seed
from ..taken import find_checks
from .held import ModuleState
from .opened import OpenProgram, opened

HyperNumbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a user chose for a graph: recipe, target, seed, layers that may run in float."""

    recipe: Recipe
    target: str
    seed: int
    allow: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Waiting:
    """What a forward left for its backward; ``tensors`` keeps what the second half reads alive."""

    held: Block | None
    tensors: dict[str, torch.Tensor]


class BoundGraph:
    """The halves of a graph, or its forward alone where no gradient is asked for."""

    def __init__(
        self,
        captured: HandedCapture,
        chosen: Chosen,
        options: BindOptions,
        memory: TargetMemory,
        numbers: Callable[[], HyperNumbers],
    ) -> None:
        self.captured, self.chosen, self._numbers = captured, chosen, numbers
        self.stages = chosen.recipe.apply(captured.program)
        target = find_target(chosen.target)
        self.stages += target.lower(self.stages[-1][1], chosen.allow)
        program = self.stages[-1][1]
        names = {*captured.tangents, *captured.hyper}
        outside = frozenset(v for v in program.inputs if v.name in names)
        self.opened: OpenProgram = opened(program, captured.trained, outside)
        self._start = {v.name: _start(v, program, chosen.seed) for v in program.state}
        self._now = {v.name: name for name, v in self.opened.now.items()}
        self._checks = find_checks(self.opened.program)
        self._draws, self._runs = draws(captured.program), 0
        self._lock, self._none = RLock(), memory.block(ALIGNMENT)
        self.halves: HalvedExecutable | None = None
        self.whole: Executable | None = None
        if outside:
            self.halves = target.bind_halves(self.opened.program, options, memory)
            self.programs: tuple[Program, ...] = (self.halves.first, self.halves.second)
        else:
            layout = state_layout(self.opened.program)
            self.whole = target.bind(self.opened.program, layout, options, memory)
            self.programs = (self.whole.program,)

    @property
    def program(self) -> Program:
        """The final program."""
        return self.opened.program

    def states(self, state: ModuleState) -> dict[str, torch.Tensor]:
        """The buffers of quantization that the program reads or writes."""
        return {name: state.buffer(name, start) for name, start in self._kept_states.items()}

    def forward(
        self, arguments: Sequence[object], state: Mapping[str, torch.Tensor]
    ) -> tuple[list[torch.Tensor], Waiting]:
        """The graph's tensors, and what its backward needs; running statistics are written."""
        first = self.programs[0]
        given = {v.name: self._early(v, arguments, state) for v in first.inputs}
        self._check(given)
        with self._lock:
            if self.halves is not None:
                made, held = self.halves.forward([given[v.name] for v in first.inputs])
            else:
                assert self.whole is not None
                inputs = [given[v.name] for v in first.inputs]
                made, held = self.whole.run(inputs, self._none, self._none), None
        values = dict(zip(first.outputs, made, strict=True))
        kept = self._kept(given, arguments, state)
        self._write(values, arguments, state)
        return self._results(values), Waiting(held, kept)

    def backward(
        self,
        waiting: Waiting,
        tangents: Sequence[torch.Tensor],
        state: Mapping[str, torch.Tensor],
    ) -> dict[int, torch.Tensor] | None:
        """Gradients by place of the argument; None, and no state is changed, where one is none.

        That is so where a gradient is infinite or NaN: scales of gradients react, no other state.
        """
        if self.halves is None or waiting.held is None:
            raise InputError(
                "backward runs a second time through one forward, whose memory it has used up; "
                "leave retain_graph out, or run the forward again"
            )
        held, waiting.held = waiting.held, None
        numbers, second = self._numbers(), self.programs[1]
        given = [self._late(v, waiting, tangents, state, numbers) for v in second.inputs]
        with self._lock:
            made = self.halves.backward(given, held)
        values = dict(zip(second.outputs, made, strict=True))
        skipped = self._skips(values, state)
        self._write(values, (), state, skipped=skipped)
        return None if skipped else self._gradients(values)

    @cached_property
    def saved(self) -> tuple[int, ...]:
        """Places of the arguments that backward reads where they lie."""
        written = {self.captured.held[name] for name in self.captured.written}
        places = {**self.captured.batch, **self.captured.held}
        read = {v.name for v in self.halves.second.inputs} if self.halves else set()
        return tuple(sorted({i for name, i in places.items() if name in read} - written))

    @cached_property
    def _kept_states(self) -> dict[str, np.ndarray]:
        """States of quantization that the program reads or writes, with what each begins with."""
        known = {*self.captured.held, *self.captured.stored}
        read = {self._now.get(v.name, v.name) for p in self.programs for v in p.inputs}
        read |= {*self.opened.written}
        return {k: start for k, start in self._start.items() if k in read and k not in known}

    def _early(
        self, value: Value, arguments: Sequence[object], state: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        name, captured = value.name, self.captured
        place = captured.batch.get(name, captured.held.get(name, -1))
        if place >= 0:
            given = arguments[place]
            assert isinstance(given, torch.Tensor)
            return _ready(given, value)
        if name in captured.stored:
            return _ready(torch.from_numpy(captured.stored[name]), value)
        if name == SEED and self.halves is None and self._draws:
            # As eager draws at each call; what training draws stays as it is.
            self._runs += 1
            fresh = stored_seed(int(state[name]) + (self._runs << 32))
            return _ready(torch.from_numpy(fresh), value)
        return _ready(state[name], value)

    def _check(self, given: Mapping[str, torch.Tensor]) -> None:
        """Raise InputError for labels and indices that the program would read beside a table."""
        for check in self._checks:
            if check.value.name in given:
                check.check(given[check.value.name].numpy())

    def _kept(
        self,
        given: Mapping[str, torch.Tensor],
        arguments: Sequence[object],
        state: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """What the second half reads as it was: copies of what is written meanwhile."""
        if self.halves is None:
            return {}
        read = {v.name for v in self.halves.second.inputs}
        own = {*state, *self.captured.written}
        return {k: t.clone() if k in own else t for k, t in given.items() if k in read}

    def _late(
        self,
        value: Value,
        waiting: Waiting,
        tangents: Sequence[torch.Tensor],
        state: Mapping[str, torch.Tensor],
        numbers: HyperNumbers,
    ) -> torch.Tensor | np.ndarray:
        name, captured = value.name, self.captured
        if name in captured.tangents:
            return _ready(tangents[captured.tangents[name]], value)
        if name in captured.hyper:
            return _number(numbers[name])
        if name in waiting.tensors:
            return waiting.tensors[name]
        return _ready(state[self._now[name]], value)

    def _results(self, values: Mapping[Value, np.ndarray]) -> list[torch.Tensor]:
        found = self.opened.results[: len(self.captured.dtypes)]
        pairs = zip(_tensors(found, values), self.captured.dtypes, strict=True)
        return [made.to(dtype) for made, dtype in pairs]

    def _gradients(self, values: Mapping[Value, np.ndarray]) -> dict[int, torch.Tensor]:
        behind = self.opened.results[len(self.captured.dtypes) :]
        found = [*zip(self.captured.input_gradients, behind, strict=True)]
        found += [(self.captured.held[name], v) for name, v in self.opened.gradients.items()]
        return dict(
            zip((i for i, _ in found), _tensors([v for _, v in found], values), strict=True)
        )

    def _skips(self, values: Mapping[Value, np.ndarray], state: Mapping[str, torch.Tensor]) -> bool:
        count = self.opened.count
        return bool(count) and int(values[self.opened.written[count]]) > int(state[count])

    @torch.no_grad()
    def _write(
        self,
        values: Mapping[Value, np.ndarray],
        arguments: Sequence[object],
        state: Mapping[str, torch.Tensor],
        *,
        skipped: bool = False,
    ) -> None:
        """Put what becomes of state into buffers."""
        reacting = {*self.opened.reacting, self.opened.count}
        for name, value in self.opened.written.items():
            if value not in values or (skipped and name not in reacting):
                continue
            place = self.captured.held.get(name, -1)
            target = arguments[place] if place >= 0 else state[name]
            assert isinstance(target, torch.Tensor)
            made = to_torch(values[value], value)
            if skipped and name != self.opened.count:  # a scale that no step has set stays
                made = torch.where(target != 0, made, target)
            target.copy_(made)


def _start(value: Value, program: Program, seed: int) -> np.ndarray:
    """What a state begins with."""
    if value.name == SEED:
        return stored_seed(seed)
    number = program.initial.get(value.name, 0.0)
    return np.full(value.type.shape, number, STORED[value.type.format.name])


def _tensors(found: Sequence[Value], values: Mapping[Value, np.ndarray]) -> Iterator[torch.Tensor]:
    """A tensor of its own memory for each; several may be one value."""
    seen = set[Value]()
    for v in found:
        made = to_torch(values[v], v)
        yield made.clone() if v in seen else made
        seen.add(v)


def _number(number: float) -> np.ndarray:
    array = aligned_bytes(4).view(np.float32).reshape(())
    array[...] = number
    return array


def _ready(given: torch.Tensor, value: Value) -> torch.Tensor:
    """A tensor as kernels read it: the same memory where that will do."""
    ready = given.detach().resolve_neg().to(DTYPES[value.type.format.name]).contiguous()
    if ready.shape != value.type.shape:
        raise InputError(
            f"{value.name} has shape {list(ready.shape)}; the graph was compiled for "
            f"{list(value.type.shape)}"
        )
    return ready.clone() if ready.data_ptr() % ALIGNMENT else ready
