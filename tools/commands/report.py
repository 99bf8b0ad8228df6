"""``quatrain report``: the bill of a ``.qtn`` file."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from ...passes.count_bit_operations import SPENT
from ...runtime.bundle import read
from ...runtime.report.bill import Bill, bill_of, exempt_layers, making_of, plan_units, with_spent
from ...runtime.report.bill_tables import bill_tables
from ...runtime.report.kept_states import kept_states
from .. import terminal
from ..arguments import (
    JsonOption,
    NetworkArgument,
    TargetOption,
    UserRecipeOption,
    load_user_passes,
)
from ..opened import Opened, open_network

NoPlanOption = Annotated[
    bool, typer.Option("--no-plan", help="Do not ask the target: no units, and no TVM needed.")
]


def command(
    network: NetworkArgument,
    as_json: JsonOption = False,
    target: TargetOption = None,
    no_plan: NoPlanOption = False,
    recipe: UserRecipeOption = None,
) -> None:
    """Print the bill: formats and units of all multiplications, memory, conversions, waivers."""
    load_user_passes(recipe)
    opened = open_network(network, target=target)
    bill = bill_of_file(opened, planned=not no_plan and opened.target != "reference")
    if any(v.name == SPENT for v in opened.final.state):
        bill = with_spent(bill, read(network).state)
    if as_json:
        terminal.write_json(bill.to_dict())
        return
    terminal.show(bill_tables(bill, terminal.out().width))


def bill_of_file(opened: Opened, *, planned: bool) -> Bill:
    """The bill of an opened file; ``planned`` asks the target what multiplies."""
    plan = opened.plan() if planned and _can_plan() else None
    return bill_of(
        opened.final if plan is None else plan.program,
        opened.torch_saved,
        making=making_of(opened.recipe, opened.target, opened.final, opened.allow, plan),
        exempt=exempt_layers(opened.recipe, opened.bundle.train),
        units=None if plan is None else plan_units(plan),
        planned_bytes=None if plan is None else plan.saved_bytes(),
        kept=kept_states(opened.bundle.train, opened.final),
    )


def _can_plan() -> bool:
    """Whether what the compiled targets build with is installed."""
    return "tvm" in sys.modules or find_spec("tvm") is not None
