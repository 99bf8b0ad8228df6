"""Options that all studies by training share, and the budget that they come to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec, get_type_hints

import typer

from ...compiler.errors import UsageError
from .. import env
from ..arguments import CacheDirOption, DataDirOption, JsonOption, TargetOption, ThreadsOption
from ..bench.plot import check_plot
from .entry import BASELINE
from .hands import Backend, Hands
from .plan import DEFAULT_NETWORK, NETWORKS, Wish

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
SeedsOption = Annotated[int, typer.Option(min=1, help="Trainings of each row.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Steps of a training.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Passes over the data.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Batch size (the network's usual).")]
RateOption = Annotated[float | None, typer.Option(min=0, help="Peak rate (the network's usual).")]
ScheduleOption = Annotated[str, typer.Option(help="constant, cosine, onecycle or triangle.")]
SamplesOption = Annotated[
    int | None, typer.Option("--train-samples", min=1, help="Use the first N training samples.")
]
RoundsOption = Annotated[
    int | None, typer.Option(min=0, help=f"Rounds of turns with {BASELINE} for the time of a step.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder that keeps results as they come.")
]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Trainings at a time (1).")]
ClusterOption = Annotated[
    Backend | None, typer.Option(help="Train on a cluster; docs/studies.md says on which.")
]
EveryOption = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-every", min=1, help="Steps between checkpoints (about two minutes)."
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Do again what failed before.")]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.svg", help="Draw a picture (.svg, .png, .pdf)."),
]
LimitOption = Annotated[float, typer.Option(min=1, help="Seconds that one build or turn may take.")]


@dataclass(frozen=True, slots=True)
class Budget:
    """What the user said of the script and of how it is run; None where nothing was said."""

    data: DataOption = "cifar10"
    network: NetworkOption = None
    seeds: SeedsOption = 3
    steps: StepsOption = None
    epochs: EpochsOption = None
    batch: BatchOption = None
    lr: RateOption = None
    schedule: ScheduleOption = "onecycle"
    train_samples: SamplesOption = None
    rounds: RoundsOption = None
    output: OutputOption = None
    workers: WorkersOption = None
    backend: ClusterOption = None
    checkpoint_every: EveryOption = None
    retry: RetryOption = False
    as_json: JsonOption = False
    plot: PlotOption = None
    limit: LimitOption = 1800.0
    data_dir: DataDirOption = None
    threads: ThreadsOption = None
    target: TargetOption = None
    cache_dir: CacheDirOption = None

    def __post_init__(self) -> None:
        """Raise UsageError, before anything is trained, where something cannot be made."""
        if self.checkpoint_every is not None and self.output is None:
            raise UsageError("--checkpoint-every needs -o FOLDER to write to")
        if self.plot is not None:
            check_plot(self.plot)

    @property
    def wish(self) -> Wish:
        """What was said of the script."""
        return Wish(
            self.data, self.network, self.batch, self.steps, self.epochs, self.lr,
            self.schedule, self.train_samples,
        )  # fmt: skip

    @property
    def hands(self) -> Hands:
        """Who trains; UsageError where that cannot be."""
        return Hands.of(self.workers, self.backend)

    def environment(self) -> AbstractContextManager[None]:
        """The variables that the options stand for."""
        return env.chosen(
            data=self.data_dir, threads=self.threads, target=self.target, cache=self.cache_dir
        )


Own = ParamSpec("Own")


def budgeted(
    command: Callable[Concatenate[Budget, Own], None], left_out: Container[str] = ()
) -> Callable[..., None]:
    """The command with the options of a ``Budget`` behind its own, as typer reads them.

    Those that are ``left_out`` are as if nothing was said of them.
    """
    hints = get_type_hints(Budget, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    ours = get_type_hints(command, include_extras=True)
    shared = [f for f in fields(Budget) if f.name not in ours and f.name not in left_out]

    def run(**given: object) -> None:
        taken = {f.name: given.pop(f.name) for f in shared}
        command(Budget(**taken), **given)  # type: ignore[arg-type, call-arg]

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(kind=keyword, annotation=ours[p.name]) for p in own]
    for field in shared:
        assert field.default is not MISSING
        parameters.append(
            inspect.Parameter(
                field.name, keyword, default=field.default, annotation=hints[field.name]
            )
        )
    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
