"""``quatrain study``: Compare recipes, layers, passes and options under one script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import RenderableType

from .. import env, terminal
from ..arguments import JsonOption, SettingsOption
from ..bench.machine import system_load
from ..data import load_any
from ..doctor import cpu_name
from ..study.ablate import ablated
from ..study.change_tables import change_tables
from ..study.cpt import LENGTH, PUBLISHED, cpt_table, read_setting
from ..study.entry import Entry, check_own, entries
from ..study.flags import Budget, budgeted
from ..study.folder import open_folder
from ..study.plan import script
from ..study.plot import plot_study
from ..study.ranges import ranged, read_range
from ..study.results import RecipeRow, in_order
from ..study.run import Study, run
from ..study.tables import study_tables

ROUNDS = 5
DEFAULT_RECIPE = "ultra_low_4bit"
Show = Callable[[Sequence[RecipeRow], Study], RenderableType]

RecipesOption = Annotated[
    list[str] | None,
    typer.Option("--recipes", metavar="NAME[:key=value,...],...", help="Recipes to compare (all)."),
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", metavar="NAME|FILE.toml", help="The recipe that is looked into.")
]
PassesOption = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="PASS", help="A pass to leave out; may repeat (each)."),
]
SwapOption = Annotated[
    list[str] | None,
    typer.Option("--swap", metavar="KEY=VALUE|all", help="An option to swap; may repeat."),
]
RangeArgument = Annotated[
    str, typer.Argument(metavar="KEY=LOW..HIGH|KEY=VALUE,...", help="lr, ... or an option.")
]
PointsOption = Annotated[int | None, typer.Option("--points", min=2, help="Values of a range (5).")]
OverOption = Annotated[
    list[str] | None,
    typer.Option("--recipes", metavar="NAME[:key=value,...],...", help="By which recipes."),
]
SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MIN-MAX/GRADIENTS]...", help="Bits, like 3-8/8 (the paper's)."),
]
LengthOption = Annotated[int, typer.Option("--length", min=1, help="Iterations of a cycle.")]


@budgeted
def recipes(budget: Budget, recipes: RecipesOption = None) -> None:
    """Train one network by several recipes: accuracy, bit operations, formats, bytes, time.

    The same command with the same -o goes on where it was stopped. Status 1 where a recipe failed.
    """
    _study(budget, entries(recipes or ()), _costs, ROUNDS)


@budgeted
def ablate(
    budget: Budget,
    recipe: RecipeOption = DEFAULT_RECIPE,
    settings: SettingsOption = None,
    without: PassesOption = None,
    swap: SwapOption = None,
) -> None:
    """Leave one pass of a recipe out, or swap one option, and see what that changes.

    Without --without and --swap each pass that changes numbers is left out in turn.
    """
    rows = ablated(recipe, settings or (), without or (), swap or ())

    def show(found: Sequence[RecipeRow], study: Study) -> RenderableType:
        return change_tables(found, study.script, study.seeds, f"Changes of {recipe}", rows[1])

    _study(budget, rows, show)


@budgeted
def range_(
    budget: Budget,
    values: RangeArgument,
    recipes: OverOption = None,
    points: PointsOption = None,
) -> None:
    """Train with one rate or option at each value of a range.

    The same command with the same -o goes on where it was stopped. Status 1 where a row failed.
    """
    over = read_range(values, points)

    def show(found: Sequence[RecipeRow], study: Study) -> RenderableType:
        return change_tables(found, study.script, study.seeds, f"Over {over.key}")

    _study(budget, ranged(recipes or [DEFAULT_RECIPE], over), show)


def _study(budget: Budget, rows: Sequence[Entry], show: Show, rounds: int = 0) -> None:
    """Train the rows and show them; what several commands do alike."""
    with budget.environment():
        made = script(budget.wish, load_any(budget.data))
        check_own(rows, made)
        folder, load = open_folder(budget.output, made), system_load()
        turns = rounds if budget.rounds is None else budget.rounds
        study = Study(
            made, tuple(rows), budget.seeds, folder, turns, budget.limit, budget.retry, load
        )
        _show(study, run(study), budget, show)


def _show(study: Study, rows: list[RecipeRow], budget: Budget, show: Show) -> None:
    if budget.plot is not None:
        plot_study(rows, study.script, budget.plot)
    if budget.as_json:
        machine = {"cpu": cpu_name(), "threads": env.threads()}
        found = [r.to_dict(study.script) for r in in_order(rows, study.script)]
        about = {"script": study.script.to_dict(), "seeds": study.seeds, "machine": machine}
        terminal.write_json({**about, "recipes": found})
    else:
        terminal.show(show(rows, study))
    if any(r.failures for r in rows):
        raise typer.Exit(1)


def _costs(rows: Sequence[RecipeRow], study: Study) -> RenderableType:
    return study_tables(rows, study.script, study.seeds)


def cpt(
    settings: SettingsArgument = None, length: LengthOption = LENGTH, as_json: JsonOption = False
) -> None:
    """What cyclic precision (CPT) saves against its greatest precision, by the paper's formula."""
    found = [read_setting(word, length) for word in settings or PUBLISHED]
    if as_json:
        terminal.write_json([s.to_dict() for s in found])
    else:
        terminal.show(cpt_table(found))


commands = {"recipes": recipes, "ablate": ablate, "range": range_, "cpt": cpt}
