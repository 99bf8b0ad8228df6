"""The evaluation program of a step, for any number of samples.

It runs in slices of its batch size where each output has one row a sample. Other outputs (a mean, a
transposed matrix, a weight) belong to all samples together, and take a program for their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

import torch

from ..compiler.errors import CaptureError, InputError
from ..compiler.ir import Program, Value
from ..compiler.ir.samples import samples_apart
from ..compiler.types import Shape
from ..targets.plan.pool import Block, TargetMemory
from ..targets.plan.state import StateLayout
from ..targets.registry import BindOptions, find_target
from .edge import Edge
from .fresh import FreshSeeds, draws
from .inputs import DTYPES, check_dense
from .source import Source
from .taken import find_checks

Reevaluate = Callable[[Sequence[torch.Tensor]], Program]


class Predictor:
    """Evaluations of one network; ``capture`` makes the program for other inputs of the model."""

    def __init__(
        self,
        source: Source,
        options: BindOptions,
        layout: StateLayout,
        memory: TargetMemory,
        capture: Reevaluate | None,
    ) -> None:
        self._source, self._options, self._layout = source, options, layout
        self._memory, self._capture = memory, capture
        self._main = self._evaluation(source.evaluation)
        self._own: dict[int, Evaluation] = {}

    def run(self, given: Sequence[object], state: Block) -> list[torch.Tensor]:
        """Outputs for all samples; InputError where they do not fit the program."""
        wanted = self._main.program.inputs
        tensors = [x for x in given if isinstance(x, torch.Tensor)]
        fits = [tuple(x.shape) for x in tensors] == [v.type.shape for v in wanted]
        if fits and len(tensors) == len(given):
            return self._main.run_once(tensors, state)
        samples = _check_samples(given, wanted)
        count, size = len(samples[0]), self._main.size
        if self._by_rows:
            return self._main.run(samples, state)
        if self._capture is None or count == 0:
            raise InputError(
                "samples of the model meet each other, or an output has no row for each, or one "
                f"sample does not tell, so predict takes {size} samples, not {count}; a step "
                "compiled from its model takes other numbers above 0"
            )
        if count not in self._own:
            self._own[count] = self._evaluation(self._capture(samples))
        return self._own[count].run_once(samples, state)

    def _evaluation(self, captured: Program) -> Evaluation:
        return Evaluation(self._source, captured, self._options, self._layout, self._memory)

    @cached_property
    def _by_rows(self) -> bool:
        """Whether each output has a row a sample, of that sample alone.

        That is seen on one sample more, if there is a model; one that is another by now tells
        nothing, and a single sample tells nothing of others.
        """
        program, size = self._source.evaluation, self._main.size
        if self._capture is not None and all(v.type.shape for v in program.inputs):
            more = [
                torch.zeros((size + 1, *v.type.shape[1:]), dtype=DTYPES[v.type.format.name])
                for v in program.inputs
            ]
            with suppress(CaptureError):
                return samples_apart(self._capture(more), size + 1)
        return samples_apart(program, size)


class Evaluation:
    """An evaluation program, through all passes and bound to the target."""

    def __init__(
        self,
        source: Source,
        captured: Program,
        options: BindOptions,
        layout: StateLayout,
        memory: TargetMemory,
    ) -> None:
        self.program = source.stages(captured)[-1][1]
        self._fresh = FreshSeeds(layout, memory) if draws(captured) else None
        executable = find_target(source.target).bind(self.program, layout, options, memory)
        self.edge = Edge(executable, memory, self.program.inputs, find_checks(self.program))

    @property
    def size(self) -> int:
        """Samples of a run."""
        return self.program.inputs[0].type.shape[0]

    def run(self, samples: Sequence[torch.Tensor], state: Block) -> list[torch.Tensor]:
        """Outputs for all samples, one row each."""
        count = len(samples[0])
        if count == 0:
            return [torch.zeros((0, *v.type.shape[1:])) for v in self.program.outputs]
        starts = range(0, count, self.size)
        slices = [self.run_once([_rows(x, i, self.size) for x in samples], state) for i in starts]
        return [torch.cat(parts)[:count] for parts in zip(*slices, strict=True)]

    def run_once(self, batch: Sequence[torch.Tensor], state: Block) -> list[torch.Tensor]:
        """Outputs for a batch of the program's own shapes."""
        for x in batch:
            check_dense("a sample", x)
        ready = self.edge.ready(batch)
        state = state if self._fresh is None else self._fresh.state(state)
        made = self.edge.run(ready, (), state, state)
        self.edge.look(wait=True)
        return made


def _rows(x: torch.Tensor, start: int, size: int) -> torch.Tensor:
    """``size`` samples from ``start`` on; zeros fill up what the last slice lacks."""
    rows = x[start : start + size]
    if len(rows) == size:
        return rows
    return torch.cat([rows, rows.new_zeros((size - len(rows), *x.shape[1:]))])


def _check_samples(given: Sequence[object], wanted: Sequence[Value]) -> list[torch.Tensor]:
    """The tensors, with samples of the program's shapes and the same number of each."""
    if len(given) != len(wanted):
        raise InputError(f"predict takes {len(wanted)} tensors, not {len(given)}")
    samples = [_check_sample(x, v.type.shape[1:]) for x, v in zip(given, wanted, strict=True)]
    counts = [len(x) for x in samples]
    if len(set(counts)) > 1:
        lengths = " and ".join(map(str, counts))
        raise InputError(f"predict takes as many samples of each input, not {lengths}")
    return samples


def _check_sample(x: object, shape: Shape) -> torch.Tensor:
    if not isinstance(x, torch.Tensor):
        raise InputError(f"a sample is a {type(x).__name__}; give predict torch tensors")
    check_dense("a sample", x)
    if x.dim() == 0 or tuple(x.shape[1:]) != shape:
        wanted = ["N", *shape]
        shown = ", ".join(map(str, wanted))
        raise InputError(f"predict takes N samples, [{shown}], not {list(x.shape)}")
    return x
