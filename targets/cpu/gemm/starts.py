"""Starts: what the sums of a forward or dX GEMM begin with.

A unit that takes ``a`` as ``a + zero`` adds ``zero`` times the weights to each sum; sums begin with
minus that, a number for each output channel and phase. All others begin with 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...gemm.geometry import Phase
from ...tir.expr import Code, Expr, Index, load
from .dots import add_numbers
from .panel_writer import panel_turns
from .taps_plan import TapsPlan
from .vectors import Registers, splat, split, store


@dataclass(frozen=True, eq=False, slots=True)
class Starts:
    """Vectors of starts; ``table`` holds [phase][group][block][lane] where they are not 0."""

    plan: TapsPlan
    table: Expr | None

    def vector(self, phase: Phase, group: Index, block: Index, v: int) -> Expr | None:
        """Of the sums of vector ``v`` of a block of channels; None where they are 0."""
        panel, lanes = self.plan.panel, self.plan.vector
        if self.table is None:
            return None
        row = (group * panel.blocks + block) * panel.width + v * lanes
        return load(self.table, phase.number * _size(self.plan) + row, lanes)


def _size(plan: TapsPlan) -> int:
    """Starts of one phase."""
    return plan.panel.groups * plan.panel.blocks * plan.panel.width


@contextmanager
def starts(code: Code, plan: TapsPlan, weights: Expr) -> Iterator[Starts]:
    """The starts of a kernel, from its filled panel."""
    if not plan.spec.dot.zero:
        yield Starts(plan, None)
        return
    phases = plan.geo.phases
    with code.workspace("int32", _size(plan) * len(phases)) as table:
        for phase in phases:
            _fill(code, plan, weights, table, phase)
        yield Starts(plan, table)


def _fill(code: Code, plan: TapsPlan, weights: Expr, table: Expr, phase: Phase) -> None:
    """Minus ``zero`` times the sum of the weights of a phase, vector by vector."""
    panel, lanes, dot = plan.panel, plan.vector, plan.spec.dot
    taps = [
        (phase.rows.tap(i), phase.columns.tap(j))
        for i in range(phase.rows.taps)
        for j in range(phase.columns.taps)
    ]
    count = panel.groups * panel.blocks
    with (
        panel_turns(code, panel, count) as job,
        code.loop(panel.width // lanes) as v,
    ):
        g, block = split(job, panel.groups, panel.blocks)
        total = Registers(code, (1,), "int32", lanes)
        total.set(splat(0, "int32", lanes), 0)
        for tap in taps:
            with code.loop(panel.turns) as turn:
                at = panel.at(g, block, tap, turn) + v * (lanes * dot.block)
                numbers = load(weights, at, lanes * dot.block)
                total.set(add_numbers(dot, total.get(0), numbers, lanes), 0)
        start = phase.number * _size(plan) + job * panel.width + v * lanes
        store(code, table, start, total.get(0) * splat(-dot.zero, "int32", lanes), lanes)
