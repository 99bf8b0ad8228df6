"""A training program for one batch shape, through all passes and bound to its target."""

from __future__ import annotations

import numpy as np

from ..targets.plan.pool import TargetMemory
from ..targets.plan.state import StateLayout, aligned_bytes, state_layout
from ..targets.registry import BindOptions, find_target
from .edge import Edge
from .source import Source
from .taken import find_checks


class BoundProgram:
    """See above; ``layout`` is that of the state, of the program's own where it is the first."""

    def __init__(
        self,
        source: Source,
        options: BindOptions,
        memory: TargetMemory,
        layout: StateLayout | None = None,
    ) -> None:
        self.source, self.options, self.memory = source, options, memory
        self.stages = source.stages(source.train)
        # What the recipe made, and behind the target's own stages.
        self.passed = self.stages[len(source.recipe.passes) - 1][1]
        self.program = self.stages[-1][1]
        names = set(source.optimizer.inputs())
        self.batch = tuple(v for v in self.program.inputs if v.name not in names)
        self.hyper_names = tuple(v.name for v in self.program.inputs if v.name in names)
        self.hyper = [aligned_bytes(4).view(np.float32).reshape(()) for _ in self.hyper_names]
        place = layout or state_layout(self.program)
        self.executable = find_target(source.target).bind(self.program, place, options, memory)
        self.edge = Edge(self.executable, memory, self.batch, find_checks(self.program))
