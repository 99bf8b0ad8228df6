"""``quatrain compile``: a model, its loss and its optimizer become a ``.qtn`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...compiler.errors import ExportError, FileError, UsageError, closest
from ...compiler.ir.text import show
from ...passes.recipe import Recipe, load_recipe
from ...targets.registry import find_target
from .. import dump, env, factory, terminal
from ..arguments import (
    CacheDirOption,
    DumpDirOption,
    SettingsOption,
    TargetOption,
    ThreadsOption,
    pairs,
)
from ..bare_flags import BareFlags
from ..dump import FIRST
from ..files import check_exists, check_writable, factory_file
from ..stages import stage
from ..update import Update

if TYPE_CHECKING:
    from ...runtime.step import Step
    from ..driver import Task

ONNX = ".onnx"
ALL = "all"
TIDY = "canonicalize"  # removes what others left; that they left nothing is no news
BARE = "For a bare model or an ONNX network"


def _update(help_: str, least: int) -> object:
    return typer.Option(help=help_, min=least, rich_help_panel="The update")


def _bare(help_: str, least: int | None = None) -> object:
    return typer.Option(help=help_, min=least, rich_help_panel=BARE)


def _onnx(help_: str, metavar: str) -> object:
    return typer.Option(help=help_, metavar=metavar, rich_help_panel="For an ONNX network")


SpecArgument = Annotated[
    str, typer.Argument(metavar="FILE.py:FACTORY|NET.onnx", help="What to compile.")
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The .qtn file to write.")]
RecipeNameOption = Annotated[
    str, typer.Option(metavar="NAME|FILE.toml", help="See quatrain recipes.")
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Examples a step.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Starts the generator of random roundings.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.safetensors", help="The model's weights, all by name; also .pt."),
]
AllowOption = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Layers that may run in float: 'fc*'.")
]
PrintAfterOption = Annotated[
    str | None, typer.Option("--print-ir-after", metavar="PASS|all", help="Print the IR.")
]
InputOption = Annotated[
    str | None, typer.Option("--input", help="One example: 3x32x32.", rich_help_panel=BARE)
]
ClassesOption = Annotated[int | None, _bare("Labels: the outputs of an example.", 1)]
LossOption = Annotated[
    str | None, _bare("cross_entropy (default), bce, mse, l1, smooth_l1 or huber.")
]
OnnxOutputOption = Annotated[str | None, _onnx("The output that the loss takes.", "NAME")]
FreezeOption = Annotated[list[str] | None, _onnx("Parameters that are not trained.", "PATTERN")]
OptimizerOption = Annotated[str | None, _bare("sgd (default), adam, adamw, nadam, rmsprop ...")]
RateOption = Annotated[float | None, _bare("Learning rate (0.1).")]
MomentumOption = Annotated[float | None, _bare("Momentum (0.9).")]
DecayOption = Annotated[float | None, _bare("Weight decay (0).")]
NesterovOption = Annotated[bool | None, _bare("Nesterov's momentum (off).")]
ClipNormOption = Annotated[float, _update("Bound of the norm of all gradients (none).", 0)]
ClipValueOption = Annotated[float, _update("Bound of each gradient (none).", 0)]
AccumulateOption = Annotated[int, _update("Steps a turn of the optimizer, on their mean.", 1)]
AverageOption = Annotated[float, _update("Decay of a moving average of the weights (none).", 0)]
StatesOption = Annotated[
    str,
    typer.Option(
        metavar="int8|int4|fp8",
        help="What Adam's moments and the like are stored in (f32).",
        rich_help_panel="The update",
    ),
]


def command(
    spec: SpecArgument,
    output: OutputOption,
    recipe: RecipeNameOption = "ultra_low_4bit",
    settings: SettingsOption = None,
    batch: BatchOption = None,
    target: TargetOption = None,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    allow: AllowOption = None,
    dump_dir: DumpDirOption = None,
    print_after: PrintAfterOption = None,
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
    input_: InputOption = None,
    classes: ClassesOption = None,
    loss: LossOption = None,
    optimizer: OptimizerOption = None,
    lr: RateOption = None,
    momentum: MomentumOption = None,
    weight_decay: DecayOption = None,
    nesterov: NesterovOption = None,
    network_output: OnnxOutputOption = None,
    freeze: FreezeOption = None,
    clip_norm: ClipNormOption = 0.0,
    clip_value: ClipValueOption = 0.0,
    accumulate: AccumulateOption = 1,
    average: AverageOption = 0.0,
    adam_states: StatesOption = "f32",
) -> None:
    """Compile the quatrain.Task or the bare model that FACTORY returns, or an ONNX network."""
    check_writable(output)
    trained = (lr, momentum, weight_decay, nesterov, network_output, freeze)
    flags = BareFlags(input_, classes, loss, optimizer, *trained)
    with env.chosen(target=target, threads=threads, dump=dump_dir, cache=cache_dir):
        update = Update(clip_norm, clip_value, accumulate, average, adam_states)
        chosen = _recipe(recipe, pairs(settings or (), "--set"), update, print_after)
        step = _compile(spec, flags, batch, chosen, seed, tuple(allow or ()), weights)
        _show(step, print_after)
        step.save(output)
    _remark(step, output, recipe)


def _remark(step: Step, output: Path, recipe: str) -> None:
    terminal.remark(f"{output}: {step.program.name}, {recipe}, for {step.source.target}")
    terminal.remark(exports(step))


def exports(step: Step) -> str:
    """Whether ``quatrain export`` will do, said ahead of the training."""
    try:
        step.check_export()
    except ExportError as reason:
        return f"cannot be exported to ONNX: {reason}"
    return "can be exported to ONNX"


def _check_weights(weights: Path | None) -> None:
    """A missing file is found before seconds go to torch."""
    if weights is not None and not weights.is_file():
        raise FileError(f"there is no file {weights}; --weights names a checkpoint of the model")


def _show(step: Step, print_after: str | None) -> None:
    """Remark on passes that changed nothing, and print the text after those that are asked for."""
    texts = {FIRST: show(step.source.train)} | {n: step.ir(after=n) for n in step.passes}
    dump.remark_idle(texts.items(), but=TIDY)
    if print_after is not None:
        print_ir(texts, print_after)


def _recipe(
    name: str, options: Mapping[str, str], update: Update, print_after: str | None
) -> Recipe:
    """The recipe; what a person may have mistyped is checked ahead of the slow import of torch."""
    recipe = update.after(load_recipe(name).with_options(options))
    find_target(env.target())
    dump.named_folder()
    if print_after not in (None, ALL, *recipe.labels):
        hint = closest(str(print_after), recipe.labels)
        raise UsageError(f"no pass {print_after!r} makes this step; {hint}")
    return recipe


def _compile(
    spec: str,
    flags: BareFlags,
    batch: int | None,
    recipe: Recipe,
    seed: int,
    allow: tuple[str, ...],
    weights: Path | None,
) -> Step:
    _check_weights(weights)
    task = _task(spec, flags, batch, seed)
    from .. import driver
    from ..weights import load_weights

    if weights is not None:
        load_weights(task.model, weights)
    return driver.compile(
        task.model,
        task.loss,
        task.example,
        task.optimizer,
        recipe=recipe,
        seed=seed,
        allow=allow,
    )


def _task(spec: str, flags: BareFlags, batch: int | None, seed: int) -> Task:
    """What to compile: of a file of Python or of an ONNX network."""
    from_file = spec.endswith(ONNX)
    if from_file:
        check_exists(Path(spec))
    else:
        factory_file(spec)  # a missing file is found before seconds go to torch
    with stage("load torch"):
        from .. import driver  # noqa: F401
        from ..bare_model import task_of
    if from_file:
        with stage("read the network"):
            from ..onnx_task import onnx_task

            return onnx_task(spec, flags, batch, seed)
    with stage("make the model"):
        return task_of(factory.make(spec), spec, flags, batch, seed)


def print_ir(texts: Mapping[str, str], after: str) -> None:
    """Print the IR after one pass, or after every pass for ``all``, marked where it is the same."""
    same = dump.idle(texts.items())
    for name in texts if after == ALL else (after,):
        if name == FIRST:
            continue
        if after == ALL:
            mark = ", which changed nothing" if name in same else ""
            terminal.line(f"# ---- after {name}{mark}")
        terminal.line(texts[name])
