"""``quatrain inspect``: the program of a ``.qtn`` after any pass, what a pass did, and the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ...compiler.errors import UsageError, closest
from ...compiler.ir import Program
from ...compiler.ir.text import show
from ...runtime.files import write_bytes
from ...runtime.report.op_counts import op_counts
from .. import dump, terminal
from ..arguments import (
    JsonOption,
    NetworkArgument,
    TargetOption,
    UserRecipeOption,
    load_user_passes,
)
from ..files import check_writable
from ..layer_view import layer_diff, layer_text, layers_named
from ..opened import Opened, open_network

COLOURS = {"+": "green", "-": "red", "@": "cyan"}

AfterOption = Annotated[
    str | None, typer.Option(metavar="PASS", help="After this pass (name#2: again).")
]
DiffOption = Annotated[str | None, typer.Option(metavar="PASS", help="What this pass changed.")]
LayerOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Only this layer (or 'stages.1.*'): all formats, what is kept."
    ),
]
ShowPlanOption = Annotated[
    bool,
    typer.Option("--plan", help="Kernels, units and places, a line each; GPUs: predicted times."),
]
BuffersOption = Annotated[
    bool, typer.Option("--buffers", help="With --plan: all buffers of kernels.")
]
EvaluationOption = Annotated[bool, typer.Option("--eval", help="The program of predict.")]
PictureOption = Annotated[
    Path | None,
    typer.Option("--onnx", metavar="FILE", help="Write the program as it is, for Netron."),
]
ListOption = Annotated[bool, typer.Option("--passes", help="List the passes.")]


def command(
    network: NetworkArgument,
    after: AfterOption = None,
    diff: DiffOption = None,
    layer: LayerOption = None,
    plan: ShowPlanOption = False,
    buffers: BuffersOption = False,
    evaluation: EvaluationOption = False,
    passes: ListOption = False,
    target: TargetOption = None,
    recipe: UserRecipeOption = None,
    as_json: JsonOption = False,
    onnx: PictureOption = None,
) -> None:
    """Show the program's text: after all passes, after one, or what one changed."""
    if sum((plan, passes, after is not None, diff is not None)) > 1:
        raise UsageError("--after, --diff, --plan and --passes each show another thing; give one")
    if buffers and not plan:
        raise UsageError("--buffers goes with --plan")
    if as_json and (passes or diff is not None or onnx is not None):
        raise UsageError("--json is of a program's ops, or with --plan of its kernels")
    if onnx is not None:
        if plan or passes or diff is not None or layer is not None:
            raise UsageError("--onnx goes with --after and --eval")
        check_writable(onnx)
    load_user_passes(recipe)
    opened = open_network(network, evaluation=evaluation, target=target)
    if plan:
        _plan(opened, layer, buffers, as_json)
    elif passes:
        terminal.line("\n".join(name for name, _ in opened.stages))
    elif diff is not None:
        _diff(_changes(opened, diff, layer))
    else:
        index = -1 if after is None else dump.find(opened.stages, after)
        _program(opened.stages[index][1], layer, onnx, as_json)


def _program(program: Program, layer: str | None, onnx: Path | None, as_json: bool) -> None:
    if onnx is not None:
        _draw(program, onnx)
    elif as_json:
        terminal.write_json(_counts(program, layer))
    else:
        terminal.line(show(program) if layer is None else layer_text(program, layer))


def _counts(program: Program, layer: str | None) -> dict[str, object]:
    """All ops in numbers, or those of the layers that ``layer`` names."""
    ops = op_counts(program)
    if layer is not None:
        found = layers_named(program, layer)
        ops = tuple(op for op in ops if op.layer in found)
    return {
        "program": program.name,
        "passes": list(program.history),
        "ops": [asdict(op) for op in ops],
    }


def _draw(program: Program, path: Path) -> None:
    from ...targets.onnx.picture import picture
    from ...targets.onnx.write import encoded

    write_bytes(path, encoded(picture(program)))
    terminal.remark(f"{path}: {program.name}, {sum(1 for _ in program.ops())} ops")


def _diff(lines: Iterable[str]) -> None:
    console = terminal.out()
    if not console.is_terminal:
        terminal.line("\n".join(lines))
        return
    for line in lines:
        console.print(Text(line, COLOURS.get(line[:1], "")), soft_wrap=True)


def _changes(opened: Opened, name: str, layer: str | None) -> list[str]:
    if layer is None:
        return dump.diff(opened.stages, name)
    after = dump.find(opened.stages, name)
    if after == 0:
        raise UsageError(f"{name!r} is the first stage; use --after {name}")
    return layer_diff(opened.stages[after - 1], opened.stages[after], layer)


def _plan(opened: Opened, layer: str | None, buffers: bool, as_json: bool) -> None:
    from ..plan_tables import overview, plan_tables
    from ..plan_view import view_plan
    from ..planning import prediction_of

    plan = opened.plan()
    view = view_plan(plan, opened.target, prediction_of(plan, opened.target))
    if layer is not None:
        known = dict.fromkeys(name for k in view.kernels for name in k.layers if name)
        view = view.of_layer(layer)
        if not view.kernels:
            raise UsageError(f"no kernel covers a layer {layer!r}; {closest(layer, known)}")
    if as_json:
        terminal.write_json(view.to_dict())
    elif buffers or layer is not None:
        terminal.show(plan_tables(view))
    else:
        terminal.line(overview(view, terminal.out().width))
