"""The plan that a target makes of a program, without building it, and what it takes on a GPU."""

from __future__ import annotations

from ..compiler.ir import Program
from ..targets.cuda.gpu import GPUS, Gpu
from ..targets.cuda.predict import Prediction, predict
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


def gpu_of(target: str) -> Gpu | None:
    """The GPU whose peaks speak for a target that names one, as cuda:sm_90 does."""
    name, _, arch = target.partition(":")
    return GPUS.get(arch) if name == "cuda" else None


def prediction_of(plan: Plan, target: str) -> Prediction | None:
    """What the plan's kernels take; None where the target names no GPU."""
    gpu = gpu_of(target)
    return predict(plan, gpu) if gpu else None
