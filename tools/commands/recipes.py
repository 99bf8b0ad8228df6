"""``quatrain recipes``: the recipes, or one of them by role with its passes and options."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.text import Text

from ...compiler.errors import UsageError
from ...passes.parts.options import as_typed
from ...passes.recipe import Recipe, load_recipe, recipe_names
from ...passes.recipe.roles import Roles, example, products, roles
from ...runtime.report.tables import table
from .. import terminal
from ..arguments import JsonOption, SettingsOption, pairs

YEAR = re.compile(r"\b(19|20)\d\d\b")
# By the letter behind the star of a type: how the tensor carries its scale.
SCALES = {
    "t": "*t: one scale for the tensor",
    "c": "*c: one for each channel",
    "p": "*p: a power of two for the tensor",
    "a": "*a: scale and offset for the tensor, *ac: for each channel",
    "s": "*s: shifted and squeezed, two numbers for the tensor",
    "b": "*bAxB:F: one for each block of A x B, kept in F",
}

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
    made = table("", "recipe", "bits", "what", "paper")
    made.title = None
    for r in recipes:
        made.add_row(r.name, _bits(r), r.title, _short(r.paper))
    made.caption = (
        "bits: of the wider operand in forward, dX and dW; quatrain recipes NAME shows a recipe by "
        "role, with its options and the paper"
    )
    made.caption_justify = "left"
    terminal.show(made)


def _bits(recipe: Recipe) -> str:
    """Of the three products of an ordinary layer, once where they are alike."""
    found = [max(v.type.format.bits for v in op.inputs[:2]) for op in products(example(recipe))]
    return str(found[0]) if len({*found}) == 1 else "/".join(map(str, found))


def _foldable(shown: str) -> str:
    """A type with a scale for each block, which is long, in parts."""
    return re.sub(r"(?=\*b)|(?=:)", "\n", shown, count=2) if "*b" in shown else shown


def _short(paper: str) -> str:
    """Who, where and when, without the title."""
    who, *rest = paper.split(", ")
    when = [part for part in rest if YEAR.search(part)]
    return f"{who}, {when[-1]}" if when else paper


def _show(recipe: Recipe, found: Roles) -> None:
    terminal.show(Text(f"{recipe.name}: {recipe.title}", "bold"))
    terminal.show(recipe.paper or "no paper named")
    terminal.show(f"hash {recipe.digest[:12]}")
    if recipe.schedule is not None:
        terminal.show(f"base {recipe.base}, or --set base=NAME|FILE.toml")
    terminal.line("")
    by_role = table("Formats by role and layer", *found.columns)
    for row in found.rows:
        by_role.add_row(*map(_foldable, row))
    marks = {cell.partition("*")[2][:1] for row in found.rows for cell in row[1:]}
    by_role.caption = "; ".join(what for mark, what in SCALES.items() if mark in marks) or None
    by_role.caption_justify = "left"
    terminal.show(by_role)
    terminal.line("")
    passes = table("Passes and options", "pass", "option", "value")
    for label, entry in zip(recipe.labels, recipe.passes, strict=True):
        options = [(k, as_typed(v)) for k, v in entry.settings.items()] or [("", "")]
        for i, (key, value) in enumerate(options):
            passes.add_row(label if i == 0 else "", key, value)
    terminal.show(passes)
