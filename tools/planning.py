"""The plan that a target makes of a program, without building it."""

from __future__ import annotations

from ..compiler.ir import Program
from ..targets.plan.plan import Plan
from ..targets.plan.state import state_layout
from ..targets.registry import BindOptions, find_target


def plan_program(target: str, program: Program) -> Plan | None:
    """The plan of ``program``, lowered for ``target``; None for a target that interprets.

    Raises NoKernelError, with op and layer, where no kernel of the asked formats exists;
    ImportError where what the target builds with is missing.
    """
    chosen = find_target(target)
    lowered = [program, *(made for _, made in chosen.lower(program))][-1]
    return chosen.plan(lowered, state_layout(lowered), BindOptions())
