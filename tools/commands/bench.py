"""``quatrain bench``: training steps and single kernels beside PyTorch, each in its own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ...compiler.errors import UsageError
from .. import env, terminal
from ..arguments import CacheDirOption, JsonOption, TargetOption, ThreadsOption, pairs
from ..bench.layers import LAYERS, layers_table, measure_layers
from ..bench.machine import Machine, look
from ..bench.plan import (
    FOUR_BIT,
    NETWORKS,
    Contender,
    Runner,
    Workload,
    contenders,
    sweep,
    without_emulated,
    workload,
)
from ..bench.plot import check_plot, plot_layers, plot_profile, plot_results, plot_sweep
from ..bench.process import ContenderFailed, Worker
from ..bench.profile_table import profile_tables
from ..bench.progress import BenchProgress
from ..bench.steps import Effort, measure
from ..bench.tables import machine_lines, result_tables, sweep_table

ALL = "all"
ROUNDS, QUICK_ROUNDS = 15, 3
PROFILED = f"quatrain {FOUR_BIT}"

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar=f"[{'|'.join(NETWORKS)}|{ALL}|FILE.py:FACTORY]...",
        help="Networks, or your own task (resnet20).",
    ),
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Batch size (each network's own).")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="PATTERN", help="Contenders by name, such as 'torch*'."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=f"Set an option of {FOUR_BIT}."),
]
RoundsOption = Annotated[int | None, typer.Option(min=1, help=f"Rounds of turns ({ROUNDS}).")]
QuickOption = Annotated[
    bool,
    typer.Option("--quick", help="4 bits beside PyTorch eager alone, few rounds, built once."),
]
SweepOption = Annotated[
    str | None, typer.Option("--sweep", metavar="batch|width|depth", help="Cost as it grows.")
]
LayersOption = Annotated[bool, typer.Option("--layers", help="Single convolutions beside oneDNN.")]
ProfileOption = Annotated[bool, typer.Option("--profile", help="Each kernel of the step, alone.")]
PredictOption = Annotated[
    bool, typer.Option("--predict", help="A GPU's step by its published peaks, unmeasured.")
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.svg", help="Draw a picture (.svg, .png, .pdf)."),
]
LimitOption = Annotated[float, typer.Option(min=1, help="Seconds that one build or turn may take.")]


def command(
    names: NamesArgument = None,
    batch: BatchOption = None,
    only: OnlyOption = None,
    settings: SettingsOption = None,
    rounds: RoundsOption = None,
    quick: QuickOption = False,
    sweep_: SweepOption = None,
    layers: LayersOption = False,
    profile: ProfileOption = False,
    predict: PredictOption = False,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    limit: LimitOption = 1800.0,
    threads: ThreadsOption = None,
    target: TargetOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Measure training steps: quatrain, PyTorch eager and compiled, and fake quantization."""
    if sum((layers, profile, predict, sweep_ is not None)) > 1:
        raise UsageError("--layers, --profile, --predict and --sweep are four; give one of them")
    if plot is not None:
        check_plot(plot)
    options = pairs(settings or (), "--set")
    effort = Effort(rounds or (QUICK_ROUNDS if quick else ROUNDS), limit, warm=not quick)
    wanted = _workloads(names or ["resnet20"], batch)
    with env.chosen(threads=threads, target=target, cache=cache_dir):
        if layers:
            _layers(effort, as_json, plot)
        elif predict:
            _predict(wanted, only or [PROFILED], options, as_json)
        elif profile:
            _profile(wanted, only or [PROFILED], options, effort, as_json, plot)
        elif sweep_ is not None:
            _sweep(wanted, sweep_, only or [], options, effort, as_json, plot)
        else:
            chosen = [(w, contenders(w.network, only or [], options, swept=quick)) for w in wanted]
            _steps(chosen, effort, as_json, plot, quick=quick and not only)


def _workloads(names: list[str], batch: int | None) -> list[Workload]:
    listed = [n for name in names for n in (NETWORKS if name == ALL else (name,))]
    return [workload(name, batch) for name in dict.fromkeys(listed)]


def _steps(
    chosen: list[tuple[Workload, tuple[Contender, ...]]],
    effort: Effort,
    as_json: bool,
    plot: Path | None,
    *,
    quick: bool,
) -> None:
    progress = BenchProgress()
    machine = _look(progress, as_json)
    if quick:
        chosen = [(size, without_emulated(who, machine.units)) for size, who in chosen]
    results = []
    for size, who in chosen:
        results.append(measure(size, who, effort, progress))
        if not as_json:
            terminal.show(result_tables(results[-1], machine, terminal.out().width))
    if as_json:
        _write(machine, results=[r.to_dict(machine) for r in results])
    if plot is not None:
        plot_results(results, plot, busy=machine.busy)


def _sweep(
    wanted: list[Workload], along: str, only: list[str], options: Mapping[str, str],
    effort: Effort, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    if len(wanted) > 1:
        raise UsageError("--sweep looks at one network at a time; name one")
    sizes = sweep(wanted[0], along)
    who = contenders(wanted[0].network, only, options, swept=True)
    progress, once = BenchProgress(), Effort(effort.rounds, effort.limit, warm=False)
    machine = _look(progress, as_json)
    results = [measure(size, who, once, progress) for size in sizes]
    if as_json:
        _write(machine, sweep=along, results=[r.to_dict(machine) for r in results])
    else:
        terminal.show(sweep_table(results, along))
    if plot is not None:
        plot_sweep(results, along, plot, busy=machine.busy)


def _layers(effort: Effort, as_json: bool, plot: Path | None) -> None:
    progress = BenchProgress()
    machine = _look(progress, as_json)
    results = measure_layers(LAYERS, effort, progress)
    if as_json:
        _write(machine, layers=[r.to_dict() for r in results])
    else:
        terminal.show(layers_table(results, machine))
    if plot is not None:
        plot_layers(results, plot, busy=machine.busy)


def _profile(
    wanted: list[Workload], only: list[str], options: Mapping[str, str], effort: Effort,
    as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    if len(wanted) > 1:
        raise UsageError("--profile looks at one network at a time; name one")
    who = _one("--profile", wanted[0], only, options)
    progress = BenchProgress()
    machine = _look(progress, as_json)
    progress.stage(f"{wanted[0].label}: compile, then run each kernel alone")
    try:
        with Worker() as worker:
            found = worker.ask(
                "profile", effort.limit,
                workload=asdict(wanted[0]), recipe=who.recipe, options=dict(who.options),
            )  # fmt: skip
    except ContenderFailed as failure:
        raise UsageError(f"{wanted[0].label}: {failure}") from None
    finally:
        progress.done()
    if as_json:
        _write(machine, profile={"workload": asdict(wanted[0]), **found})
    else:
        terminal.show(profile_tables(wanted[0].label, found))
    if plot is not None:
        plot_profile(wanted[0].label, found, plot, busy=machine.busy)


def _predict(
    wanted: list[Workload], only: list[str], options: Mapping[str, str], as_json: bool
) -> None:
    # Imported here: what is measured runs in other processes, and this one loads no torch.
    from ..bench.predict import gpu_named
    from ..bench.predict_job import predict_workload
    from ..bench.predict_table import predict_tables

    gpu_named(env.target())
    chosen = [(size, _one("--predict", size, only, options)) for size in wanted]
    found = [predict_workload(size, who, env.target()) for size, who in chosen]
    if as_json:
        terminal.write_json({"predictions": [one.to_dict() for one in found]})
    else:
        for one in found:
            terminal.show(predict_tables(one))


def _one(option: str, size: Workload, only: list[str], options: Mapping[str, str]) -> Contender:
    who = contenders(size.network, only, options)
    if len(who) > 1 or who[0].way is not Runner.QUATRAIN:
        raise UsageError(f"{option} looks into one step of quatrain; name it with --only")
    return who[0]


def _look(progress: BenchProgress, as_json: bool) -> Machine:
    progress.stage("measure what the machine can do")
    machine = look()
    progress.done()
    if not as_json:
        terminal.show(machine_lines(machine))
    return machine


def _write(machine: Machine, **found: object) -> None:
    terminal.write_json({"machine": machine.to_dict(), **found})
