"""The plan that a target makes of a program, without building it."""

from __future__ import annotations

from ..compiler.ir import Program
from ..targets.plan.plan import Plan
from ..targets.plan.state import state_layout
from ..targets.registry import BindOptions, find_target


def plan_program(target: str, program: Program, allow: tuple[str, ...] = ()) -> Plan | None:
    """The plan of ``program`` on ``target``; None for a target that interprets.

    Raises NoKernelError, with op and layer, where no kernel of the asked formats exists and no
    pattern of ``allow`` waives it; ImportError where what the target builds with is missing.
    """
    options = BindOptions(allow=allow)
    return find_target(target).plan(program, state_layout(program), options)
