"""The plan that a target makes of a program, without building it."""

from __future__ import annotations

from ..compiler.ir import Program
from ..targets.plan import Plan
from ..targets.registry import BindOptions, find_target
from ..targets.state_layout import state_layout


def plan_program(target: str, program: Program) -> Plan | None:
    """The plan of ``program`` on ``target``; None for a target that interprets.

    Raises NoKernelError, with op and layer, where no kernel of the asked formats exists, and
    ImportError where what the target builds with is not installed.
    """
    found, layout = find_target(target), state_layout(program)
    if target != "cpu":
        return found.bind(program, layout, BindOptions()).plan
    from ..targets.cpu import plan_cpu
    from ..targets.cpu_info import detect

    return plan_cpu(program, layout, detect())
