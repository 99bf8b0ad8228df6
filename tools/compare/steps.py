"""``quatrain.compare``: two compiled steps on one batch from the state of the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...compiler.errors import InputError, UsageError, shown
from ...runtime.step import Step
from ...targets.registry import find_target
from ...targets.seen import seen
from ..binding import bind_options
from .align import Comparison, Ran, compare_ran
from .start import GivenArray, fitting, start


def compare(
    step_a: Step, step_b: Step, batch: Sequence[torch.Tensor], *, tolerance: float = 0.0
) -> Comparison:
    """Run both on ``batch``, which changes neither, and say value by value where they part.

    State that both have starts as that of ``step_a``, as do hyper-parameters. Each runs on its own
    target; of compiled ones what lies in buffers can be seen, of ``reference`` all. Values part
    where they differ by more than ``tolerance`` of the largest number (0: at all). Raises
    InputError for a batch that a step is not made for.
    """
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not number or not 0 <= tolerance < float("inf"):
        raise UsageError(f"tolerance is {shown(tolerance)}; it is a number of at least 0")
    for step in (step_a, step_b):
        if not isinstance(step, Step):
            raise UsageError(f"{shown(step)} is no step; compare what quatrain.compile returned")
    ours, theirs = (_numbers(step, batch) for step in (step_a, step_b))
    a = _run(step_a, ours)
    shared = fitting(step_b.program, ours)
    return compare_ran(a, _run(step_b, {**theirs, **shared}), tolerance)


def _numbers(step: Step, batch: Sequence[torch.Tensor]) -> dict[str, GivenArray]:
    """A batch, the hyper-parameters and the state by name."""
    program = step.program
    names = [v for v in program.inputs if v.name not in step.hyper]
    if not isinstance(batch, list | tuple) or not all(torch.is_tensor(t) for t in batch):
        raise InputError(f"the batch is {shown(batch)}; give its tensors together, as (x, y)")
    if len(names) != len(batch):
        raise InputError(f"the batch has {len(batch)} tensors, {step!r} takes {len(names)}")
    made: dict[str, GivenArray] = {k: t.numpy() for k, t in step.state.items()}
    made |= {k: np.asarray(x, np.float32) for k, x in step.hyper.items()}
    return made | {v.name: t.detach().cpu().numpy() for v, t in zip(names, batch, strict=True)}


def _run(step: Step, numbers: dict[str, GivenArray]) -> Ran:
    values, _ = start(step.program, numbers, step.seed)
    found = seen(find_target(step.source.target), step.program, values, bind_options())
    return Ran(repr(step), step.program, found)
