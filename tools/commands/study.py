"""``quatrain study``: Compare recipes, layers, passes and options under one script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from ...compiler.errors import UsageError
from .. import env, terminal
from ..arguments import JsonOption, SettingsOption, pairs
from ..bench.machine import system_load
from ..bench.plot import check_plot
from ..data import load_any
from ..doctor import cpu_name
from ..study.ablate import ablated
from ..study.change_tables import change_tables
from ..study.cpt import LENGTH, PUBLISHED, cpt_table, read_setting
from ..study.entry import Entry, check_own, check_untrained, distinct, entries
from ..study.flags import Budget, budgeted
from ..study.folder import open_folder
from ..study.gradients import gradient_tables
from ..study.groups import RECIPE
from ..study.kept import KeptShot, read_folder
from ..study.plan import script
from ..study.plot import plot_study
from ..study.ranges import ranged, read_range
from ..study.results import RecipeRow, in_order
from ..study.run import Study, run
from ..study.sensitivity import (
    How,
    Shot,
    Start,
    StudiedLayer,
    check_batches,
    frame_rows,
    layer_rows,
    layers_of,
    shots,
)
from ..study.sensitivity_tables import shot_tables
from ..study.sweep import SCRIPT_KEYS, read_sweep
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
HowOption = Annotated[
    How, typer.Option("--how", help="One step each, or short trainings: alone, exempt.")
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option("--layers", metavar="PATTERN", help="Layers by name; may repeat (all)."),
]
BatchesOption = Annotated[
    int, typer.Option("--batches", min=1, help="Batches of one step each that are averaged.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="NET.qtn|FILE.safetensors", help="Trained weights."),
]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="What -o of another study named.")
]
PictureOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE.svg", help="A .svg, .png or .pdf (FOLDER/study.svg)."
    ),
]
ByOption = Annotated[
    str, typer.Option("--by", metavar="KEY", help="Colours by recipe, or by this option.")
]
SweepArgument = Annotated[
    Path, typer.Argument(metavar="FILE.toml", help="Its axes: docs/studies.md.")
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
def sensitivity(
    budget: Budget,
    recipe: RecipeOption = DEFAULT_RECIPE,
    settings: SettingsOption = None,
    how: HowOption = How.ONE_SHOT,
    layers: LayersOption = None,
    batches: BatchesOption = 1,
    state: StateOption = None,
) -> None:
    """Which layer loses: one at a time quantized alone, in one step or trained, or exempt.

    A step is compared with that of fp32 on the same batch, without training.
    """
    if how is How.ONE_SHOT and (budget.workers or budget.backend):
        raise UsageError("--workers is for trainings; give --how alone or --how exempt with it")
    mine, start = pairs(settings or (), "--set"), Start(batches, state)
    frame = frame_rows(recipe, mine, how)
    with budget.environment():
        study = _made(budget, frame, 0)
        found = layers_of(study, frame[-1], layers or (), start)
        rows = layer_rows(recipe, mine, found, how)
        if how is How.ONE_SHOT:
            _show_shots(study, [*zip(rows, found, strict=True)], frame, start, budget)
            return
    base = frame[-1] if how is How.EXEMPT else frame[0]

    def show(found: Sequence[RecipeRow], study: Study) -> RenderableType:
        what = "exempt or not" if how is How.EXEMPT else "quantized alone"
        title = f"One layer of {recipe} at a time, {what}"
        return change_tables(found, study.script, study.seeds, title, base)

    _study(budget, distinct([*frame, *rows]), show)


def _show_shots(
    study: Study,
    rows: Sequence[tuple[Entry, StudiedLayer | None]],
    frame: Sequence[Entry],
    start: Start,
    budget: Budget,
) -> None:
    every = [(frame[0], None), *rows, (frame[1], None)]
    results = shots(study, [row for row, _ in every], start)
    made = [Shot(row, layer, r) for (row, layer), r in zip(every, results, strict=True)]
    if budget.plot is not None:
        well = [s for s in made if not s.result.get("error")]
        drawn = [KeptShot.of(s.layer.name if s.layer else s.entry.label, s.result) for s in well]
        plot_study([], study.script, budget.plot, shots=drawn)
    if budget.as_json:
        found = [{**s.result, "layer": s.layer and s.layer.name} for s in made]
        terminal.write_json({"script": study.script.to_dict(), "rows": found})
    else:
        terminal.show(shot_tables(made, study.script, start))
    if any(r.get("error") for r in results):
        raise typer.Exit(1)


@budgeted
def gradients(
    budget: Budget,
    recipes: RecipesOption = None,
    batches: BatchesOption = 1,
    state: StateOption = None,
) -> None:
    """One step by each recipe, beside fp32: how far gradients are from its own, without training.

    Status 1 where a recipe failed.
    """
    rows, start = entries(recipes or ()), Start(batches, state)
    check_untrained(rows)
    with budget.environment():
        study = _made(budget, rows, 0)
        check_batches(study, start)
        results = shots(study, rows, start)
    if budget.plot is not None:
        well = [(r, x) for r, x in zip(rows, results, strict=True) if not x.get("error")]
        drawn = [KeptShot.of(row.label, result) for row, result in well]
        plot_study([], study.script, budget.plot, shots=drawn)
    if budget.as_json:
        found = [{"label": r.label, **x} for r, x in zip(rows, results, strict=True)]
        terminal.write_json({"script": study.script.to_dict(), "rows": found})
    else:
        terminal.show(gradient_tables(rows, results, study.script, start))
    if any(r.get("error") for r in results):
        raise typer.Exit(1)


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
    over, chosen = read_range(values, points), recipes or [DEFAULT_RECIPE]

    def show(found: Sequence[RecipeRow], study: Study) -> RenderableType:
        title = f"{', '.join(chosen)} over {over.key}"
        return change_tables(found, study.script, study.seeds, title)

    _study(budget, ranged(chosen, over), show)


@partial(budgeted, left_out=SCRIPT_KEYS)
def sweep(budget: Budget, file: SweepArgument) -> None:
    """Train the product of the axes that a file lists: recipes, options, schedules.

    The same command with the same -o goes on where it was stopped. Status 1 where a row failed.
    """
    found = read_sweep(file)
    _study(replace(budget, **found.script), found.rows, _axes)  # type: ignore[arg-type]


def plot(folder: FolderArgument, output: PictureOption = None, by: ByOption = RECIPE) -> None:
    """Draw what a study's folder holds: curves, and what was reached over bits, time and options.

    Points have names, bands go from the lowest to the highest seed.
    """
    found = read_folder(folder)
    path = folder / "study.svg" if output is None else output
    check_plot(path, "--output")
    plot_study(found.rows, found.script, path, by, found.shots)
    terminal.line(str(path))


def _study(budget: Budget, rows: Sequence[Entry], show: Show, rounds: int = 0) -> None:
    """Train the rows and show them; what several commands do alike."""
    with budget.environment():
        study = _made(budget, rows, rounds)
        _show(study, run(study), budget, show)


def _made(budget: Budget, rows: Sequence[Entry], rounds: int) -> Study:
    """The study of the rows, in the folder that keeps it."""
    made = script(budget.wish, load_any(budget.data))
    check_own(rows, made)
    hands = budget.hands
    folder, load = open_folder(budget.output, made), system_load()
    turns = rounds if budget.rounds is None else budget.rounds
    return Study(
        made, tuple(rows), budget.seeds, folder, turns, budget.limit, budget.retry, load,
        budget.checkpoint_every, hands,
    )  # fmt: skip


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


def _axes(rows: Sequence[RecipeRow], study: Study) -> RenderableType:
    """With times where those were asked for; the rest of what rows cost is as of their recipes."""
    if study.rounds:
        return _costs(rows, study)
    return change_tables(rows, study.script, study.seeds, "The product of the axes")


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


commands = {
    "recipes": recipes,
    "sensitivity": sensitivity,
    "gradients": gradients,
    "ablate": ablate,
    "range": range_,
    "sweep": sweep,
    "plot": plot,
    "cpt": cpt,
}
