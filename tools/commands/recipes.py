"""``quatrain recipes``: the recipes, or one of them by role with its passes and options."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ...compiler.errors import UsageError
from ...passes.parts.options import as_typed
from ...passes.recipe import Recipe, load_recipe, recipe_names
from ...passes.recipe.roles import Roles, roles
from ...runtime.report.tables import table
from .. import terminal
from ..arguments import JsonOption, SettingsOption, pairs

NameArgument = Annotated[
    str | None, typer.Argument(metavar="NAME|FILE.toml", help="Show this recipe in full.")
]


def command(
    name: NameArgument = None, settings: SettingsOption = None, as_json: JsonOption = False
) -> None:
    """List the recipes, or show one: which format each operand has, its passes, its options."""
    if name is None:
        if settings:
            raise UsageError("--set needs the NAME of a recipe")
        _list([load_recipe(n) for n in recipe_names()], as_json)
        return
    recipe = load_recipe(name).with_options(pairs(settings or (), "--set"))
    found = roles(recipe)
    if as_json:
        by_role = {row[0]: dict(zip(found.columns[1:], row[1:], strict=True)) for row in found.rows}
        terminal.write_json({**recipe.to_dict(), "hash": recipe.digest, "roles": by_role})
    else:
        _show(recipe, found)


def _list(recipes: list[Recipe], as_json: bool) -> None:
    if as_json:
        terminal.write_json([r.to_dict() for r in recipes])
        return
    made = table("", "recipe", "what", "paper")
    made.title = None
    for r in recipes:
        made.add_row(r.name, r.title, r.paper)
    terminal.show(made)


def _show(recipe: Recipe, found: Roles) -> None:
    terminal.show(Text(f"{recipe.name}: {recipe.title}", "bold"))
    terminal.show(recipe.paper or "no paper named")
    terminal.show(f"hash {recipe.digest[:12]}")
    if recipe.schedule is not None:
        terminal.show(f"base {recipe.base}, or --set base=NAME|FILE.toml")
    terminal.line("")
    by_role = table("Formats by role and layer", *found.columns)
    for row in found.rows:
        by_role.add_row(*row)
    terminal.show(by_role)
    terminal.line("")
    passes = table("Passes and options", "pass", "option", "value")
    for label, entry in zip(recipe.labels, recipe.passes, strict=True):
        options = [(k, as_typed(v)) for k, v in entry.settings.items()] or [("", "")]
        for i, (key, value) in enumerate(options):
            passes.add_row(label if i == 0 else "", key, value)
    terminal.show(passes)
