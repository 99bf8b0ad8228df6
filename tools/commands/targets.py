"""``quatrain targets``: what a step can be compiled for, and what multiplies there."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from ...runtime.report.tables import table
from ...targets.registry import TARGETS, find_target
from .. import terminal
from ..arguments import JsonOption

NameArgument = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show the unit for each pair of formats.")
]


def command(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """List the targets, or show which unit multiplies which operands on one of them."""
    if name is not None:
        _show(name, as_json)
        return
    if as_json:
        terminal.write_json([{"name": t.name, "about": t.about} for t in TARGETS.values()])
        return
    made = table("", "target", "what")
    made.title = None
    for t in TARGETS.values():
        made.add_row(t.name, t.about)
    terminal.show(made)


def _show(name: str, as_json: bool) -> None:
    from ..units_by_format import summary, units_by_format

    find_target(name)
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
