"""``quatrain run``: train a ``.qtn`` on a data set, keep checkpoints, say the test accuracy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...compiler.errors import UsageError
from .. import env, terminal
from ..arguments import (
    CacheDirOption,
    DataDirOption,
    JsonOption,
    TargetOption,
    ThreadsOption,
    UserRecipeOption,
    load_user_passes,
)
from ..files import check_writable
from ..stages import stage

if TYPE_CHECKING:
    from ..dataset import Dataset, Text
    from ..train import Run, Trained
    from ..watching import RunWatch

SIGNAL_STATUS = 128

TrainedArgument = Annotated[
    Path, typer.Argument(metavar="NET.qtn|DIR", help="A compiled network, or a built one.")
]
DataOption = Annotated[
    str,
    typer.Option("--data", metavar="NAME|PATH[:key=value,...]", help="Data set; see docs/data.md."),
]
StepsOption = Annotated[int | None, typer.Option(min=0, help="Steps of the run.")]
EpochsOption = Annotated[int | None, typer.Option(min=0, help="Passes over the data.")]
RateOption = Annotated[float | None, typer.Option(min=0, help="Peak rate (the compiled one).")]
ScheduleOption = Annotated[str, typer.Option(help="constant, cosine, onecycle or triangle.")]
CheckpointOption = Annotated[Path | None, typer.Option(help="Saved at every epoch, stop and end.")]
EveryOption = Annotated[
    int | None, typer.Option("--checkpoint-every", min=1, help="Steps between checkpoints.")
]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Go on from this checkpoint of the same run.")
]
MaxSkippedOption = Annotated[
    int, typer.Option(min=0, help="Steps in a row that may have no finite loss and gradients.")
]
WatchOption = Annotated[
    str | None,
    typer.Option(metavar="PATTERN[,PATTERN]", help="Tensors to look at: dy, *.dw, layer1.*, *."),
]
WatchEveryOption = Annotated[
    int | None, typer.Option(min=1, help="Steps between looks (50).", show_default=False)
]
WatchToOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="For watch.jsonl, and TensorBoard's files.")
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="The trained network.")]


def command(
    network: TrainedArgument,
    data: DataOption,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    data_dir: DataDirOption = None,
    lr: RateOption = None,
    schedule: ScheduleOption = "constant",
    checkpoint: CheckpointOption = None,
    checkpoint_every: EveryOption = None,
    resume: ResumeOption = None,
    max_skipped: MaxSkippedOption = 10,
    watch: WatchOption = None,
    watch_every: WatchEveryOption = None,
    watch_to: WatchToOption = None,
    output: OutputOption = None,
    threads: ThreadsOption = None,
    target: TargetOption = None,
    recipe: UserRecipeOption = None,
    cache_dir: CacheDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the network; the last line says its accuracy on the test part."""
    from ..schedule import schedule as find_schedule
    from ..watching import RunWatch

    load_user_passes(recipe)
    _check_files(network, resume, checkpoint, checkpoint_every, output)
    wanted = RunWatch.of(network, watch, watch_every, watch_to)
    with env.chosen(threads=threads, data=data_dir, cache=cache_dir):
        from .. import train

        plan = partial(
            train.plan_run, steps=steps, epochs=epochs, lr=lr, factor=find_schedule(schedule),
            checkpoint=checkpoint, every=checkpoint_every, max_skipped=max_skipped,
        )  # fmt: skip
        train.check_run(steps, epochs, checkpoint, _check_place(network))
        step, found, run, batch = _prepared(network, data, data_dir, resume, target, plan)
        _train(step, found, run, batch, wanted, as_json)
        if output is not None:
            step.save(output)


def _prepared(
    network: Path,
    data: str,
    data_dir: Path | None,
    resume: Path | None,
    target: str | None,
    plan: Callable[..., Run],
) -> tuple[Trained, Dataset, Run, int]:
    """The step, its data, the run and its batch size."""
    from ..data import load_any

    given = load_any(data, data_dir)
    load = _loader(network, target)
    found, batch = _fit(network, given)
    step, first = _open(load, network, resume)
    return step, found, plan(step, found, batch, first), batch


def _check_there(network: Path, resume: Path | None) -> None:
    from ...runtime.built.folder import read_manifest
    from ...runtime.bundle import check_exists

    if network.is_dir():
        read_manifest(network)
        if resume is not None:
            read_manifest(resume)
        return
    check_exists(network)
    if resume is not None:
        check_exists(resume, "run ... --checkpoint")


def _check_place(network: Path) -> Callable[[Path], None]:
    """What refuses a place that the trained network cannot be written to."""
    from ...runtime.built.folder import check_place

    return check_place if network.is_dir() else check_writable


def _check_files(
    network: Path,
    resume: Path | None,
    checkpoint: Path | None,
    every: int | None,
    output: Path | None,
) -> None:
    _check_there(network, resume)
    if every is not None and checkpoint is None:
        raise UsageError("--checkpoint-every needs --checkpoint FILE to write to")
    if output is not None:
        _check_place(network)(output)


def _fit(network: Path, data: Dataset | Text) -> tuple[Dataset, int]:
    """The data as the network takes them, and its batch size; no kernel is built for that."""
    from ...runtime.built.folder import read_manifest
    from ...runtime.bundle import read
    from ..fit import fit, takes, takes_built

    if network.is_dir():
        m = read_manifest(network)
        programs = m.step.plan.program, m.step.checks, m.predict.plan.program
        return fit(data, takes_built(*programs, m.predict.rows, m.hyper))
    bundle = read(network, state=False)
    hyper = bundle.manifest.get("hyper")
    known = hyper if isinstance(hyper, dict) else ()
    return fit(data, takes(bundle.train, bundle.evaluation, known))


def _loader(network: Path, target: str | None) -> Callable[[Path], Trained]:
    """What loads a network; torch, where it is missing, is told ahead of what else is wrong."""
    if network.is_dir():
        return partial(_load_built, target=target)
    from .. import driver

    return partial(driver.load, target=target)


def _load_built(folder: Path, target: str | None) -> Trained:
    from ...runtime.built import load

    return load(folder, target=target, threads=env.threads())


def _open(
    load: Callable[[Path], Trained], network: Path, resume: Path | None
) -> tuple[Trained, int]:
    """The step to train, and the number of steps that the network had before this run."""
    from ..train import steps_done

    if resume is not None:
        check_same(network, resume)
    with stage(f"load {network}"):
        step = load(network)
    first = steps_done(step)
    if resume is None:
        return step, first
    with stage(f"load {resume}"):
        return load(resume), first


def check_same(network: Path, checkpoint: Path) -> None:
    """Raise UsageError unless ``checkpoint`` is of the network: same program, same recipe."""
    from ...runtime.built.folder import MANIFEST, read_file
    from ...runtime.bundle import read
    from ..same import difference

    if network.is_dir():
        if read_file(network, MANIFEST) != read_file(checkpoint, MANIFEST):
            raise UsageError(f"{checkpoint} is no checkpoint of {network}: it was built otherwise")
        return
    if said := difference(read(network, state=False), read(checkpoint, state=False)):
        raise UsageError(f"{checkpoint} is no checkpoint of {network}: {said}")


def _train(
    step: Trained, data: Dataset, run: Run, batch: int, wanted: RunWatch, as_json: bool
) -> None:
    from .. import train
    from ..progress import finite, reporter, text_numbers, words_of_text
    from ..signals import stop_on_signal
    from ..watching import say_watched

    length = run.last - run.first
    if said := train.give_length(step, length):
        terminal.remark(said)
    if length and run.last <= (done := train.steps_done(step)):
        _say_over(run, done)
    last = None
    with (
        wanted.watching(step) as watcher,
        stop_on_signal() as stopped,
        reporter(run, as_json) as report,
    ):
        for last in train.train(step, data, run, batch, lambda: bool(stopped)):
            report(last)
    if watcher is not None:
        say_watched(watcher, as_json)
    if stopped:
        _say_stopped(run, last.done if last else train.steps_done(step))
        raise typer.Exit(SIGNAL_STATUS + stopped[0])
    test = last.test if last else train.test_part(step, data, batch)
    if as_json:
        found = {"steps": run.last, "loss": last and finite(last.loss), "skipped": step.skipped}
        right = {"test_accuracy": test and test.accuracy}
        terminal.write_json({**found, **right, **text_numbers(run, test)}, indent=None)
    elif test is not None:
        terminal.line(f"test accuracy {100 * test.accuracy:.1f} %{words_of_text(run, test)}")


def _say_over(run: Run, done: int) -> None:
    """A run that is resumed where it is over, or further than it goes."""
    terminal.remark(
        f"nothing to train: the checkpoint has {done - run.first} steps of this run behind it, "
        f"which has {run.last - run.first}; give a larger number, or begin a run from the "
        "checkpoint without --resume"
    )


def _say_stopped(run: Run, done: int) -> None:
    hint = "nothing was saved (no --checkpoint)"
    if run.checkpoint is not None:
        hint = f"go on with the same command and --resume {run.checkpoint}"
    terminal.remark(f"stopped after step {done} of {run.last}; {hint}")
