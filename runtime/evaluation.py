"""The evaluation program of a step: any number of samples, run in slices of its batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..compiler.errors import InputError
from ..compiler.ir import Value
from ..compiler.types import Shape
from ..targets.plan.state import StateLayout
from ..targets.registry import BindOptions, find_target
from .inputs import check_batch, check_labels, find_labels, to_torch
from .source import Source


class Evaluation:
    """The evaluation program, through all passes and bound to the target."""

    def __init__(self, source: Source, options: BindOptions, layout: StateLayout) -> None:
        self.program = source.stages(source.evaluation)[-1][1]
        self.labels = find_labels(self.program)
        self.executable = find_target(source.target).bind(self.program, layout, options)

    def run(self, given: Sequence[object], state: np.ndarray) -> list[torch.Tensor]:
        """Outputs for all samples, one row each; InputError where they do not fit the program."""
        samples = _check_samples(given, self.program.inputs)
        size, count = self.program.inputs[0].type.shape[0], len(samples[0])
        if count == 0:
            return [torch.zeros((0, *v.type.shape[1:])) for v in self.program.outputs]
        starts = range(0, count, size)
        slices = [self._run_slice([_rows(x, i, size) for x in samples], state) for i in starts]
        if count == size:
            return slices[0]
        return [torch.cat(parts)[:count] for parts in zip(*slices, strict=True)]

    def _run_slice(self, batch: list[torch.Tensor], state: np.ndarray) -> list[torch.Tensor]:
        ready = check_batch(batch, self.program.inputs)
        for labels in self.labels:
            check_labels(ready, self.program.inputs, labels)
        made = self.executable.run(ready, state, state)
        return [to_torch(m, v) for m, v in zip(made, self.program.outputs, strict=True)]


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
        raise InputError(f"predict takes samples of shape {list(shape)}, not {type(x).__name__}")
    if tuple(x.shape[1:]) != shape:
        raise InputError(f"predict takes samples of shape {list(shape)}, not {list(x.shape)}")
    return x
