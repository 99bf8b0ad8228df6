"""``predict`` of a built step: for any number of samples where each is treated alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.errors import InputError
from ...compiler.ir import Value
from ...targets.plan.pool import Block, TargetMemory
from ...targets.plan.state import StateLayout
from ...targets.registry import Executable
from ..arrays import plain
from ..fresh import FreshSeeds
from ..taken import check_numbers
from .batch import as_array, check_arrays
from .manifest import BuiltProgram


class BuiltPredictor:
    """The program of ``predict``, ready to run."""

    def __init__(
        self,
        program: BuiltProgram,
        executable: Executable,
        layout: StateLayout,
        memory: TargetMemory,
    ) -> None:
        self._program, self._executable = program, executable
        self._inputs: Sequence[Value] = program.plan.program.inputs
        self._outputs: Sequence[Value] = program.plan.program.outputs
        self._fresh = FreshSeeds(layout, memory) if program.draws else None

    def run(self, given: Sequence[object], state: Block) -> list[np.ndarray]:
        """Outputs for all samples; InputError where they do not fit."""
        if len(given) != len(self._inputs):
            raise InputError(f"predict takes {len(self._inputs)} arrays, not {len(given)}")
        pairs = zip(given, self._inputs, strict=True)
        samples = [as_array(value.name, x) for x, value in pairs]
        if all(x.shape == v.type.shape for x, v in zip(samples, self._inputs, strict=True)):
            return self._once(samples, state)
        count, size = _count(samples, self._inputs), self._inputs[0].type.shape[0]
        if not self._program.rows:
            raise InputError(
                "samples of the model meet each other, or an output has no row for each, so "
                f"predict takes {size} samples, not {count}"
            )
        if count == 0:
            return [np.zeros((0, *v.type.shape[1:]), np.float32) for v in self._outputs]
        starts = range(0, count, size)
        slices = [self._once([_rows(x, i, size) for x in samples], state) for i in starts]
        return [np.concatenate(parts)[:count] for parts in zip(*slices, strict=True)]

    def _once(self, samples: Sequence[np.ndarray], state: Block) -> list[np.ndarray]:
        ready = check_arrays(samples, self._inputs)
        check_numbers(ready, self._inputs, self._program.checks)
        state = state if self._fresh is None else self._fresh.state(state)
        made = self._executable.run(ready, state, state)
        return [plain(m, v.type) for m, v in zip(made, self._outputs, strict=True)]


def _count(samples: Sequence[np.ndarray], wanted: Sequence[Value]) -> int:
    """The number of samples, the same of each input."""
    for x, value in zip(samples, wanted, strict=True):
        shape = value.type.shape[1:]
        if x.ndim == 0 or x.shape[1:] != shape:
            named = ", ".join(map(str, ("N", *shape)))
            raise InputError(f"predict takes N samples, [{named}], not {list(x.shape)}")
    counts = {len(x) for x in samples}
    if len(counts) > 1:
        lengths = " and ".join(str(len(x)) for x in samples)
        raise InputError(f"predict takes as many samples of each input, not {lengths}")
    return len(samples[0])


def _rows(x: np.ndarray, start: int, size: int) -> np.ndarray:
    """``size`` samples from ``start`` on; zeros fill up what the last slice lacks."""
    rows = x[start : start + size]
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *x.shape[1:]), x.dtype)])
