"""A plan as calls of compiled kernels in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.ir import Value
from ..plan.kernel import Slot
from ..plan.plan import Plan
from ..plan.pool import Block, HostMemory
from .module import CompiledStep
from .threads import crew


class CpuExecutable:
    """Runs the compiled step on up to ``threads`` threads, in the arena of a memory."""

    def __init__(self, plan: Plan, step: CompiledStep, memory: HostMemory, threads: int) -> None:
        self.program, self.plan, self._step = plan.program, plan, step
        self._memory, self._threads = memory, threads

    def run(
        self, inputs: Sequence[object], old: Block, new: Block, arena: Block | None = None
    ) -> tuple[np.ndarray, ...]:
        """See ``Executable.run``; ``arena`` is another than that of the memory."""
        crew(self._threads, self._step.loop).look()
        size = self._step.arena
        arena = self._memory.arena(size) if arena is None else arena[:size]
        self._step(arena, old, new, *inputs)
        blocks = {"arena": arena, "old": old, "new": new}
        return tuple(self._output(v, blocks, inputs) for v in self.program.outputs)

    def _output(
        self, value: Value, blocks: Mapping[str, Block], inputs: Sequence[object]
    ) -> np.ndarray:
        """A copy of an output, which may be a value of any block, an input or a view of one."""
        place = self.plan.places[Slot(value)]
        if place.where in blocks:
            block = blocks[place.where]
        else:
            names = [v.name for v in self.program.inputs]
            given = np.asarray(inputs[names.index(place.where)])
            block = np.ascontiguousarray(given).reshape(-1).view(np.uint8)
        layout = self.plan.layouts[value]
        raw: np.ndarray = block[place.offset : place.offset + layout.bytes].copy()
        return raw.view(layout.dtype).reshape(layout.physical_shape)
