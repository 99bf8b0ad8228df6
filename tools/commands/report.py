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
from ...runtime.page.source import KernelTimes
from ...runtime.report.bill import Bill, bill_of, exempt_layers, making_of, plan_units, with_spent
from ...runtime.report.bill_tables import bill_tables
from ...runtime.report.kept_states import kept_states
from ...targets.plan.plan import Plan
from ...targets.registry import find_target
from .. import env, terminal
from ..arguments import (
    JsonOption,
    TargetOption,
    UserRecipeOption,
    load_user_passes,
)
from ..cost.bills import bills, bills_table
from ..cost.overhead import overhead_dict, overhead_tables
from ..cost.uncompiled import check_specs, uncompiled
from ..opened import Opened, open_network
from ..page_of_file import check_page, predicted_times, watched_of, write_page
from ..stages import stage
from ..study.entry import entries

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
OverheadOption = Annotated[
    bool,
    typer.Option(
        "--overhead", help="With --recipes: conversions, scales and statistics of each, by op."
    ),
]
NoPlanOption = Annotated[
    bool, typer.Option("--no-plan", help="Do not ask the target: no units, and no TVM needed.")
]


HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE.html", help="Draw it, with the program after every pass: one page."
    ),
]
ProfileOption = Annotated[
    bool, typer.Option("--profile", help="With --html: run each kernel alone, for its time.")
]
WatchedOption = Annotated[
    Path | None,
    typer.Option(
        "--watched",
        metavar="FOLDER|FILE.jsonl",
        help="With --html: what run --watch-to or step.watch wrote, layer by layer over time.",
    ),
]


def command(
    network: BilledArgument,
    as_json: JsonOption = False,
    target: TargetOption = None,
    no_plan: NoPlanOption = False,
    recipe: UserRecipeOption = None,
    html: HtmlOption = None,
    profile: ProfileOption = False,
    watched: WatchedOption = None,
    recipes: ComparedOption = None,
    batch: BilledBatchOption = None,
    overhead: OverheadOption = False,
) -> None:
    """Print the bill: formats and units of all multiplications, memory, conversions, waivers."""
    _check(html, watched, as_json=as_json, profile=profile, no_plan=no_plan)
    load_user_passes(recipe)
    if recipes:
        if html is not None:
            raise UsageError("--recipes compares bills as a table; --html draws one network's file")
        _compare(network, recipes, target, batch, overhead=overhead, as_json=as_json)
        return
    if overhead:
        raise UsageError("--overhead goes with --recipes NAME,...; a bill of one has --json")
    if batch is not None or ".py:" in network:
        raise UsageError(
            "FILE.py:FACTORY and --batch go with --recipes NAME,...; without it report reads a "
            ".qtn file"
        )
    path = Path(network)
    opened = open_network(path, target=target)
    seen = None if watched is None else watched_of(watched, opened)
    plan = _plan_of(opened, planned=not no_plan and opened.target != "reference")
    bill = bill_of_file(opened, plan)
    if any(v.name == SPENT for v in opened.final.state):
        bill = with_spent(bill, read(path).state)
    if html is not None:
        write_page(html, opened, bill, plan, _times(opened, plan, measure=profile), seen)
    elif as_json:
        terminal.write_json(bill.to_dict())
    else:
        terminal.show(bill_tables(bill, terminal.out().width))


def _compare(
    network: str,
    recipes: list[str],
    target: str | None,
    batch: int | None,
    *,
    overhead: bool,
    as_json: bool,
) -> None:
    rows, chosen = entries(recipes), find_target(env.target() if target is None else target).name
    check_specs([network])
    found = uncompiled(network, batch)
    made = bills(found, rows, chosen)
    if as_json:
        made_rows = [{**row.to_dict(), "overhead": overhead_dict(row.bill)} for row in made]
        terminal.write_json({"network": found.name, "bills": made_rows})
    elif overhead:
        terminal.show(overhead_tables(found.name, made))
    else:
        terminal.show(bills_table(found.name, made))


def bill_of_file(opened: Opened, plan: Plan | None) -> Bill:
    """The bill of an opened file; the plan says what multiplies."""
    return bill_of(
        opened.final if plan is None else plan.program,
        opened.torch_saved,
        making=making_of(opened.recipe, opened.target, opened.final, opened.allow, plan),
        exempt=exempt_layers(opened.recipe, opened.bundle.train),
        units=None if plan is None else plan_units(plan),
        planned_bytes=None if plan is None else plan.saved_bytes(),
        kept=kept_states(opened.bundle.train, opened.final),
    )


def _check(
    html: Path | None, watched: Path | None, *, as_json: bool, profile: bool, no_plan: bool
) -> None:
    if html is None:
        if profile:
            raise UsageError("--profile goes with --html; quatrain bench --profile prints a table")
        if watched is not None:
            raise UsageError("--watched is drawn on a page; give --html FILE.html too")
        return
    if as_json:
        raise UsageError("--html and --json each give another report; give one")
    if profile and no_plan:
        raise UsageError("--profile runs the kernels of the plan that --no-plan leaves out")
    check_page(html)


def _times(opened: Opened, plan: Plan | None, *, measure: bool) -> KernelTimes | None:
    if not measure:
        return None if plan is None else predicted_times(opened, plan)
    if not _can_plan():
        raise UsageError("--profile builds kernels with TVM, which is missing; see quatrain doctor")
    if plan is None or opened.target != "cpu":
        raise UsageError(f"--profile runs kernels of this CPU, not {opened.target}; --target cpu")
    from ..bench.profile import kernel_seconds

    with stage("run each kernel alone"):
        seconds = kernel_seconds(plan)
    return KernelTimes(seconds, "measured on one machine, each kernel alone")


def _plan_of(opened: Opened, *, planned: bool) -> Plan | None:
    return opened.plan() if planned and _can_plan() else None


def _can_plan() -> bool:
    """Whether what the compiled targets build with is installed."""
    return "tvm" in sys.modules or find_spec("tvm") is not None
