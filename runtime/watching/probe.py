"""The program that measures: a step's forward and backward beside those of f32, nothing updated.

It reads the same batch and state as the step and writes neither, so that what is watched cannot
change what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...compiler.errors import RecipeError
from ...compiler.ir import Program, Value
from ...compiler.ir.analysis import without_dead
from ...compiler.ir.verify import verify
from ...passes.parts.beside import beside
from ...passes.parts.watch_ops import Gauge
from ...passes.parts.watch_points import WatchPoint, chosen_points, watch_points
from ...passes.recipe import load_recipe
from ...passes.watch import watched_points
from ...targets.plan.pool import Block
from ...targets.plan.state import StateLayout
from ...targets.registry import find_target
from ..bound import BoundProgram
from ..edge import Edge
from ..telling import LOG
from ..watched.row import PointNumbers

PREFIX = "fp32."


class Probe:
    """The measuring program of one batch shape, bound to the target."""

    def __init__(
        self,
        bound: BoundProgram,
        layout: StateLayout,
        patterns: str,
        fp32: bool,
    ) -> None:
        source, options, memory = bound.source, bound.options, bound.memory
        self.program, self._measured = probing(bound.passed, source.train, patterns, fp32)
        target = find_target(source.target)
        lowered = [self.program, *(p for _, p in target.lower(self.program, source.allow))][-1]
        executable = target.bind(lowered, layout, options, memory)
        # The step itself has looked at the batch.
        self._edge = Edge(executable, memory, lowered.inputs[: len(bound.batch)], ())
        self._places = {v.name: i for i, v in enumerate(self.program.outputs)}

    def run(
        self, batch: Sequence[Any], hyper: Sequence[np.ndarray], state: Block
    ) -> list[tuple[WatchPoint, PointNumbers]]:
        """The numbers of each point by statistic."""
        made = [t.cpu().numpy() for t in self._edge.run(batch, hyper, state, state)]
        return [
            (m.point, {k: made[self._places[v.name]] for k, v in m.results.items()})
            for m in self._measured
        ]


def probing(
    program: Program, captured: Program, patterns: str, fp32: bool
) -> tuple[Program, tuple[Gauge, ...]]:
    """The measuring program of a recipe's, and what it makes for each point."""
    points = chosen_points(program, patterns)
    plain: Mapping[str, Value] = {}
    if fp32:
        program, plain = _with_fp32(program, captured, points)
    made, measured = watched_points(program, points, plain)
    results = dict.fromkeys(v for m in measured for v in m.results.values())
    bare = replace(made, outputs=tuple(results), next=())
    return verify(without_dead(bare)), measured


def _with_fp32(
    program: Program, captured: Program, points: Sequence[WatchPoint]
) -> tuple[Program, Mapping[str, Value]]:
    """The program beside the same step in f32, and there the tensors of ``points``, by name."""
    plain = load_recipe("fp32").ending_with("over_steps").apply(captured)[-1][1]
    alike = {(p.layer, p.role): p.before for p in reversed(watch_points(plain))}
    own = {v.name: v for _, op in plain.ops() for v in op.results}
    wanted = {}
    for p in points:
        v = own.get(p.before.name) if p.role == "value" else alike.get((p.layer, p.role))
        if v is not None and v.type.shape == p.before.type.shape and p.role != "w":
            wanted[p.name] = v.name
    if not wanted:
        return program, {}
    try:
        both, found = beside(program, plain, PREFIX)
    except RecipeError as e:
        LOG.warning("watch compares nothing with f32: %s", e)
        return program, {}
    return both, {name: found[v] for name, v in wanted.items() if v in found}
