"""``quatrain study``: Compare recipes under one script, or work out what a schedule saves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import env, terminal
from ..arguments import CacheDirOption, DataDirOption, JsonOption, TargetOption, ThreadsOption
from ..bench.machine import system_load
from ..bench.plot import check_plot
from ..data import load_any
from ..doctor import cpu_name
from ..study.cpt import LENGTH, PUBLISHED, cpt_table, read_setting
from ..study.folder import open_folder
from ..study.plan import (
    BASELINE,
    DEFAULT_NETWORK,
    NETWORKS,
    Wish,
    check_own,
    entries,
    script,
)
from ..study.plot import plot_study
from ..study.results import RecipeRow, in_order
from ..study.run import Study, run
from ..study.tables import study_tables

RecipesOption = Annotated[
    list[str] | None,
    typer.Option("--recipes", metavar="NAME[:key=value,...],...", help="Recipes to compare (all)."),
]
DataOption = Annotated[
    str,
    typer.Option(
        "--data", metavar="NAME|PATH[:key=value,...]", help="Images, arrays or text: docs/data.md."
    ),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        metavar=f"{'|'.join(NETWORKS)}|FILE.py:FACTORY",
        help=f"Network ({DEFAULT_NETWORK}; digits_cnn for digits).",
    ),
]
SeedsOption = Annotated[int, typer.Option(min=1, help="Trainings of each recipe.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Steps of a training.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Passes over the data.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Batch size (the network's usual).")]
RateOption = Annotated[float | None, typer.Option(min=0, help="Peak rate (the network's usual).")]
ScheduleOption = Annotated[str, typer.Option(help="constant, cosine, onecycle or triangle.")]
SamplesOption = Annotated[
    int | None, typer.Option("--train-samples", min=1, help="Use the first N training samples.")
]
RoundsOption = Annotated[
    int, typer.Option(min=0, help=f"Rounds of turns with {BASELINE} for the time of a step.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder that keeps results as they come.")
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Do again what failed before.")]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.svg", help="Draw a picture (.svg, .png, .pdf)."),
]
LimitOption = Annotated[float, typer.Option(min=1, help="Seconds that one build or turn may take.")]
SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MIN-MAX/GRADIENTS]...", help="Bits, like 3-8/8 (the paper's)."),
]
LengthOption = Annotated[int, typer.Option("--length", min=1, help="Iterations of a cycle.")]


def recipes(
    recipes: RecipesOption = None,
    data: DataOption = "cifar10",
    network: NetworkOption = None,
    seeds: SeedsOption = 3,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: RateOption = None,
    schedule: ScheduleOption = "onecycle",
    train_samples: SamplesOption = None,
    rounds: RoundsOption = 5,
    output: OutputOption = None,
    retry: RetryOption = False,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    limit: LimitOption = 1800.0,
    data_dir: DataDirOption = None,
    threads: ThreadsOption = None,
    target: TargetOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Train one network by several recipes: accuracy, bit operations, formats, bytes, time.

    The same command with the same -o goes on where it was stopped. Status 1 where a recipe failed.
    """
    if plot is not None:
        check_plot(plot)
    rows = entries(recipes or ())
    wish = Wish(data, network, batch, steps, epochs, lr, schedule, train_samples)
    with env.chosen(data=data_dir, threads=threads, target=target, cache=cache_dir):
        made = script(wish, load_any(data))
        check_own(rows, made)
        folder, load = open_folder(output, made), system_load()
        study = Study(made, rows, seeds, folder, rounds, limit, retry, load)
        _show(study, run(study), as_json, plot)


def _show(study: Study, rows: list[RecipeRow], as_json: bool, plot: Path | None) -> None:
    if plot is not None:
        plot_study(rows, study.script, plot)
    if as_json:
        machine = {"cpu": cpu_name(), "threads": env.threads()}
        found = [r.to_dict(study.script) for r in in_order(rows, study.script)]
        about = {"script": study.script.to_dict(), "seeds": study.seeds, "machine": machine}
        terminal.write_json({**about, "recipes": found})
    else:
        terminal.show(study_tables(rows, study.script, study.seeds))
    if any(r.failures for r in rows):
        raise typer.Exit(1)


def cpt(
    settings: SettingsArgument = None, length: LengthOption = LENGTH, as_json: JsonOption = False
) -> None:
    """What cyclic precision (CPT) saves against its greatest precision, by the paper's formula."""
    found = [read_setting(word, length) for word in settings or PUBLISHED]
    if as_json:
        terminal.write_json([s.to_dict() for s in found])
    else:
        terminal.show(cpt_table(found))


commands = {"recipes": recipes, "cpt": cpt}
