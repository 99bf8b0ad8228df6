"""``quatrain report``: the bill of a ``.qtn`` file, or of a network by several recipes."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ...compiler.errors import UsageError
from ...passes.count_bit_operations import SPENT
from ...runtime.bundle import read
from ...runtime.report.bill import Bill, bill_of, exempt_layers, making_of, plan_units, with_spent
from ...runtime.report.bill_tables import bill_tables
from ...targets.registry import find_target
from .. import env, terminal
from ..arguments import (
    JsonOption,
    TargetOption,
    UserRecipeOption,
    load_user_passes,
)
from ..cost.bills import bills, bills_table
from ..cost.uncompiled import check_specs, uncompiled
from ..opened import Opened, open_network
from ..study.plan import entries

BilledArgument = Annotated[
    str,
    typer.Argument(metavar="NET.qtn|FILE.py:FACTORY", help="A network; FACTORY with --recipes."),
]
ComparedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipes",
        metavar="NAME[:key=value,...],...",
        help="The bills of these side by side; nothing is trained or built.",
    ),
]
BilledBatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, help="With FILE.py:FACTORY: examples a step.")
]

NoPlanOption = Annotated[
    bool, typer.Option("--no-plan", help="Do not ask the target: no units, and no TVM needed.")
]


def command(
    network: BilledArgument,
    as_json: JsonOption = False,
    target: TargetOption = None,
    no_plan: NoPlanOption = False,
    recipe: UserRecipeOption = None,
    recipes: ComparedOption = None,
    batch: BilledBatchOption = None,
) -> None:
    """Print the bill: formats and units of all multiplications, memory, conversions, waivers."""
    load_user_passes(recipe)
    if recipes:
        _compare(network, recipes, target, batch, as_json)
        return
    if batch is not None or ".py:" in network:
        raise UsageError(
            "FILE.py:FACTORY and --batch go with --recipes NAME,...; without it report reads a "
            ".qtn file"
        )
    path = Path(network)
    opened = open_network(path, target=target)
    bill = bill_of_file(opened, planned=not no_plan and opened.target != "reference")
    if any(v.name == SPENT for v in opened.final.state):
        bill = with_spent(bill, read(path).state)
    if as_json:
        terminal.write_json(bill.to_dict())
        return
    terminal.show(bill_tables(bill, terminal.out().width))


def _compare(
    network: str, recipes: list[str], target: str | None, batch: int | None, as_json: bool
) -> None:
    rows, chosen = entries(recipes), find_target(env.target() if target is None else target).name
    check_specs([network])
    found = uncompiled(network, batch)
    made = bills(found, rows, chosen)
    if as_json:
        terminal.write_json({"network": found.name, "bills": [row.to_dict() for row in made]})
    else:
        terminal.show(bills_table(found.name, made))


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
    )


def _can_plan() -> bool:
    """Whether what the compiled targets build with is installed."""
    return "tvm" in sys.modules or find_spec("tvm") is not None
