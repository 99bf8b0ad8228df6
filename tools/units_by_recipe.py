"""What multiplies in a layer as each recipe leaves it: a small network, planned for the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..compiler.errors import NoKernelError
from ..compiler.ir import Op, Program
from ..passes.recipe import Recipe
from ..passes.recipe.roles import example, products
from ..targets.plan.plan import Plan
from .planning import plan_program
from .units_by_format import INTERPRETED, MISSING

CHANNELS = 32  # tensor cores take sums of so many products
PRODUCTS = ("forward", "dX", "dW")
WHERE = f"a 3x3 convolution of {CHANNELS} channels, neither first nor last"


@dataclass(frozen=True, slots=True)
class ProductUnits:
    """One product of a layer: its operands, and what multiplies them on each target."""

    direction: str
    operands: str
    units: tuple[str, ...]


def units_by_recipe(recipe: Recipe, targets: Sequence[str]) -> list[ProductUnits]:
    """The three products of an ordinary layer.

    Raises ImportError where what a target builds with is missing.
    """
    program = example(recipe, channels=CHANNELS)
    plans = [_planned(target, program) for target in targets]
    found = []
    for direction, op in zip(PRODUCTS, products(program), strict=True):
        operands = " x ".join(v.type.format.name for v in op.inputs[:2])
        found.append(ProductUnits(direction, operands, tuple(_unit(plan, op) for plan in plans)))
    return found


def _planned(target: str, program: Program) -> Plan | str:
    """The plan, or in a word why there is none."""
    try:
        plan = plan_program(target, program)
    except NoKernelError:
        return MISSING
    return INTERPRETED if plan is None else plan


def _unit(plan: Plan | str, op: Op) -> str:
    if isinstance(plan, str):
        return plan
    kernels = (planned.kernel for planned in plan.kernels)
    wanted = op.kind, op.origin
    return next((k.unit.value for k in kernels for o in k.ops if (o.kind, o.origin) == wanted), "-")
