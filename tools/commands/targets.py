"""``quatrain targets``: what a step can be compiled for, and what multiplies there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from ...compiler.errors import UsageError
from ...passes.recipe import load_recipe, recipe_names
from ...runtime.report.tables import table
from ...targets.registry import TARGETS, find_target
from .. import terminal
from ..arguments import JsonOption
from ..stages import stage
from ..units_by_recipe import PRODUCTS, WHERE, ProductUnits, units_by_recipe

# Of the GPUs that can be named without having one, that of the table.
GPU = "cuda:sm_90"
ASKED = ("cpu", GPU)

NameArgument = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show what multiplies on this target.")
]
AllFormatsOption = Annotated[
    bool, typer.Option("--all", help="With NAME: each pair of formats, as --json has them.")
]


def command(
    name: NameArgument = None, every: AllFormatsOption = False, as_json: JsonOption = False
) -> None:
    """List the targets, and what multiplies there in what each recipe makes of a layer."""
    if name is None:
        if every:
            raise UsageError("--all needs the NAME of a target")
        _list(as_json)
        return
    find_target(name)
    if every or as_json:
        _all_formats(name, as_json)
    else:
        _one(name)


def _list(as_json: bool) -> None:
    if as_json:
        terminal.write_json([{"name": t.name, "about": t.about} for t in TARGETS.values()])
        return
    made = table("", "target", "what")
    made.title = None
    for t in TARGETS.values():
        made.add_row(t.name, t.about)
    terminal.show(made)
    try:
        found = _by_recipe(ASKED)
    except ModuleNotFoundError as error:
        terminal.line(
            f"{error.name} is not installed, without which it is not known what multiplies"
        )
        return
    directions = ", ".join(PRODUCTS)
    headers = [f"{target}: {directions}" for target in ASKED]
    matrix = table("What multiplies, by recipe", "recipe", *headers)
    for recipe, products in found.items():
        matrix.add_row(recipe, *(_once([p.units[i] for p in products]) for i in range(len(ASKED))))
    matrix.caption = (
        f"{WHERE}; one word where all three are alike; reference: NumPy in all; "
        "quatrain targets NAME has the operands"
    )
    matrix.caption_justify = "left"
    terminal.show(matrix)


def _once(units: Sequence[str]) -> str:
    return units[0] if len({*units}) == 1 else ", ".join(units)


def _by_recipe(targets: Sequence[str]) -> dict[str, list[ProductUnits]]:
    with stage("plan a layer by each recipe", quiet=True):
        return {name: units_by_recipe(load_recipe(name), targets) for name in recipe_names()}


def _one(name: str) -> None:
    made = table(f"What multiplies on {name}", "recipe", "product", "operands", "multiplied in")
    for recipe, products in _by_recipe([name]).items():
        alike = groupby(products, key=lambda p: (p.operands, p.units[0]))
        for i, ((operands, unit), group) in enumerate(alike):
            directions = ", ".join(p.direction for p in group)
            made.add_row("" if i else recipe, directions, operands, unit)
    made.caption = f"{WHERE}; quatrain targets {name} --all: each pair of formats"
    made.caption_justify = "left"
    terminal.show(made)


def _all_formats(name: str, as_json: bool) -> None:
    from ..units_by_format import summary, units_by_format

    with stage("ask for each pair of formats", quiet=True):
        found = units_by_format(name)
    if as_json:
        terminal.write_json(
            [
                {"op": op, "operands": list(pair), "unit": unit}
                for (op, unit), pairs in found.items()
                for pair in pairs
            ]
        )
        return
    made = table(f"Multiplications on {name}", "ops", "multiplied in", "operands")
    for ops, unit, words in summary(found):
        made.add_row(", ".join(ops), unit, Group(*(_hanging(w) for w in words)))
        made.add_section()
    terminal.show(made)
    terminal.show("each op of a block with each pair of its lines: A x B, of every A with every B")


def _hanging(text: str) -> Table:
    """A line that starts with a point, so that its own folds are told from the next line."""
    made = Table.grid(padding=(0, 1))
    made.add_row("-", text)
    return made
