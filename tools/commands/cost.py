"""``quatrain cost``: what a step would take on an accelerator, there or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...compiler.errors import UsageError
from ...runtime.cost.accelerator import Accelerator
from ...runtime.cost.accelerator_file import accelerator_names, load_accelerator
from ...runtime.cost.cost_tables import constants_tables, cost_tables
from ...runtime.cost.model import OperandBits
from ...runtime.cost.resized import resized
from .. import terminal
from ..arguments import JsonOption, sizes
from ..bench.plot import check_plot
from ..cost.parts import parts_tables
from ..cost.plot import plot_cost
from ..cost.sweep import NamedRecipe, SweepRow, sweep, sweep_tables
from ..cost.uncompiled import Uncompiled, check_specs, uncompiled
from ..study.entry import entries, entry_recipe

DEFAULT, RECIPE = "bitfusion", "ultra_low_4bit"
SWEPT = ("fp32", "bf16", "sbm8", RECIPE)
MOST_BITS = 8

SpecsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NET.qtn|FILE.py:FACTORY]", help="What to cost.")
]
AcceleratorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accelerator",
        metavar="NAME|FILE.toml",
        help=f"{', '.join(accelerator_names())}, or a file of yours ({DEFAULT}).",
    ),
]
CostedRecipesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="NAME[:key=value,...]|FILE.toml",
        help=f"The recipe (a .qtn file's own, else {RECIPE}).",
    ),
]
ArrayOption = Annotated[
    list[str] | None,
    typer.Option("--array", metavar="INPUTSxOUTPUTS", help="Another size of each array: 32x64."),
]
CountedBitsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--bits",
        metavar="A/W/G",
        help="Count integer codes in products as so many bits of activations, weights, gradients.",
    ),
]
CostedBatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, help="Examples a step, of FILE.py:FACTORY.")
]
SweepFlagOption = Annotated[
    bool,
    typer.Option(
        "--sweep",
        help="A row for each combination; options above may be given again or with commas.",
    ),
]
SweepPlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.svg", help="With --sweep: a picture (.svg, .png, .pdf)."),
]
PartsOption = Annotated[
    bool,
    typer.Option(
        "--parts", help="With --sweep: time and energy by part of the step, a row a recipe."
    ),
]
OpsOption = Annotated[bool, typer.Option("--ops", help="A row for each op, not for each layer.")]
ConstantsOption = Annotated[
    bool, typer.Option("--constants", help="The accelerator's numbers, each with its source.")
]


def command(
    specs: SpecsArgument = None,
    accelerator: AcceleratorOption = None,
    recipe: CostedRecipesOption = None,
    array: ArrayOption = None,
    bits: CountedBitsOption = None,
    batch: CostedBatchOption = None,
    ops: OpsOption = False,
    sweep_: SweepFlagOption = False,
    parts: PartsOption = False,
    plot: SweepPlotOption = None,
    constants: ConstantsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cycles, stalls, bits moved, energy and area of a step on an accelerator, by a model.

    Nothing is trained and no kernel is built. What the model knows: docs/cost.md.
    """
    machines = _machines(accelerator or (), array or (), sweep_)
    if constants:
        _show_constants(specs, machines, as_json)
        return
    if not specs:
        raise UsageError("name what to cost: a .qtn file or FILE.py:FACTORY")
    _check(specs, plot, sweep_, ops, parts)
    recipes = _recipes(recipe or (), specs, sweep_)
    counted: list[OperandBits | None] = [_bits(word) for word in _words(bits or ())]
    counted = counted or [None]
    if not sweep_:
        _one("--recipe", recipes)
        _one("--bits", counted)
    check_specs(specs)
    networks = [uncompiled(spec, batch) for spec in specs]
    if sweep_:
        _sweep(list(sweep(networks, recipes, machines, counted)), plot, parts, as_json)
    else:
        _show(networks[0], recipes, machines[0], counted[0], ops, as_json)


def _check(specs: Sequence[str], plot: Path | None, sweep_: bool, ops: bool, parts: bool) -> None:
    if plot is not None:
        if not sweep_:
            raise UsageError("--plot goes with --sweep")
        check_plot(plot)
    if parts and not sweep_:
        raise UsageError("--parts goes with --sweep; the cost of one step has its parts anyway")
    if sweep_ and ops:
        raise UsageError("--ops is of one step; a sweep has a row for each")
    if len(specs) > 1 and not sweep_:
        raise UsageError(f"{len(specs)} networks are costed side by side by --sweep")


def _show(
    network: Uncompiled,
    recipes: Sequence[NamedRecipe],
    machine: Accelerator,
    bits: OperandBits | None,
    ops: bool,
    as_json: bool,
) -> None:
    (row,) = sweep([network], recipes, [machine], [bits])
    if row.cost is None:
        raise UsageError(row.failure)
    if as_json:
        terminal.write_json({"recipe": row.recipe, **row.cost.to_dict()})
    else:
        terminal.show(cost_tables(row.cost, every_op=ops))


def _sweep(rows: Sequence[SweepRow], plot: Path | None, parts: bool, as_json: bool) -> None:
    if plot is not None:
        plot_cost(rows, plot)
    if as_json:
        terminal.write_json({"rows": [row.to_dict() for row in rows]})
    else:
        terminal.show(parts_tables(rows) if parts else sweep_tables(rows))


def _show_constants(
    specs: Sequence[str] | None, machines: Sequence[Accelerator], as_json: bool
) -> None:
    if specs or as_json:
        raise UsageError("--constants shows an accelerator; give it alone with --accelerator")
    for machine in machines:
        terminal.show(constants_tables(machine))


def _words(given: Sequence[str]) -> list[str]:
    """Options given again or with commas, each once."""
    words = (word.strip() for part in given for word in part.split(","))
    return list(dict.fromkeys(word for word in words if word))


def _one(option: str, found: Sequence[object]) -> None:
    if len(found) > 1:
        raise UsageError(f"{option} names {len(found)}; --sweep costs them side by side")


def _machines(
    accelerators: Sequence[str], arrays: Sequence[str], sweep_: bool
) -> list[Accelerator]:
    names = _words(accelerators) or (list(accelerator_names()) if sweep_ else [DEFAULT])
    found = [load_accelerator(name) for name in names]
    shapes = [_shape(word) for word in _words(arrays)]
    if not sweep_:
        _one("--accelerator", found)
        _one("--array", shapes)
    if not shapes:
        return found
    return [resized(machine, *shape) for machine in found for shape in shapes]


def _shape(word: str) -> tuple[int, int]:
    found = sizes(word, "--array")
    if len(found) != 2:
        raise UsageError(f"--array {word!r} is no size of an array; one reads like --array 32x64")
    return found[0], found[1]


def _bits(word: str) -> OperandBits:
    found = re.fullmatch(r"(\d+)/(\d+)/(\d+)", word)
    numbers = [int(n) for n in found.groups()] if found else []
    if not numbers or not all(2 <= n <= MOST_BITS for n in numbers):
        raise UsageError(
            f"--bits {word!r} are no bits of activations/weights/gradients, each 2 .. {MOST_BITS}; "
            "they read like --bits 4/4/8"
        )
    return OperandBits(*numbers)


def _recipes(given: Sequence[str], specs: Sequence[str], sweep_: bool) -> list[NamedRecipe]:
    """The recipes asked for; none where each network brings its own."""
    if not given:
        if not sweep_ and specs[0].endswith(".qtn"):
            return []
        given = SWEPT if sweep_ else (RECIPE,)
    return [NamedRecipe(row.label, entry_recipe(row)) for row in entries(given)]
