"""``quatrain demo``: a small network trained in 4 bits and in fp32, compared on one screen."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from .. import env, terminal
from ..arguments import CacheDirOption, ThreadsOption
from ..files import check_writable, make_folder
from ..stages import stage

if TYPE_CHECKING:
    from ..demo import Trained

RECIPES = ("ultra_low_4bit", "fp32")

FullOption = Annotated[bool, typer.Option("--full", help="Print the whole bill as well.")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the data.")]
FolderOption = Annotated[
    Path, typer.Option("--output-dir", "-o", help="Folder of the two trained networks.")
]


def command(
    full: FullOption = False,
    epochs: EpochsOption = 10,
    output_dir: FolderOption = Path("quatrain-demo"),
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Train a small network on handwritten digits in 4 bits and in fp32; compare the two."""
    from ..data import load_data

    files = [make_folder(output_dir) / f"{recipe}.qtn" for recipe in RECIPES]
    for file in files:
        check_writable(file)
    data = load_data("digits", None)
    terminal.line(
        f"Handwritten digits of 8x8 pixels, {len(data.x_train)} to learn and {len(data.x_test)} to "
        f"test.\nOne small network, trained in 4 bits and in fp32: {_passes(epochs)} each.\n"
    )
    sys.stdout.flush()
    with env.chosen(threads=threads, cache=cache_dir):
        with stage("load torch", quiet=True):
            from ..demo import trained
        found = []
        for recipe, file in zip(RECIPES, files, strict=True):
            found.append(trained(recipe, data, epochs, file))
            terminal.remark(_one_run(found[-1]))
    _show(found, full)


def _passes(epochs: int) -> str:
    return "one pass over the data" if epochs == 1 else f"{epochs} passes over the data"


def _one_run(run: Trained) -> str:
    return f"{run.recipe}: compiled in {run.compiling:.1f} s, trained in {run.training:.1f} s"


def _show(runs: list[Trained], full: bool) -> None:
    """The comparison, the bill's most telling lines or all of it, what to do next; the accuracy."""
    from ...runtime.report.bill_tables import bill_tables, telling

    four_bits = runs[0]
    terminal.line("")
    terminal.show(_comparison(runs))
    terminal.line(f"\nA training step by {four_bits.recipe}")
    if full:
        terminal.show(bill_tables(four_bits.bill, terminal.out().width))
    else:
        terminal.show(_rows(telling(four_bits.bill)))
    terminal.line(_next(four_bits.file, full))
    terminal.line(f"test accuracy {100 * four_bits.accuracy:.1f} %")


def _comparison(runs: list[Trained]) -> Table:
    made = Table.grid(padding=(0, 3), pad_edge=False)
    made.add_column()
    for _ in runs:
        made.add_column(justify="right")
    made.add_row("", *(Text(r.recipe, "bold") for r in runs))
    made.add_row("test accuracy", *(f"{100 * r.accuracy:.1f} %" for r in runs))
    made.add_row("time of all training steps", *(f"{r.training:.2f} s" for r in runs))
    made.add_row("images a second", *(f"{r.speed:,.0f}" for r in runs))
    return made


def _rows(lines: tuple[tuple[str, str], ...]) -> Table:
    made = Table.grid(padding=(0, 2))
    for line in lines:
        made.add_row(*line)
    return made


def _next(file: Path, full: bool) -> str:
    """Commands to go on with; none is shown for what was printed already."""
    own = called()
    steps = [] if full else [("the whole bill, layer by layer", f"{own} report {file}")]
    steps += [
        ("what one layer computes, in which formats", f"{own} inspect {file} --layer 3"),
        ("other recipes", f"{own} recipes"),
        ("your model, as examples/digits.py shows", f"{own} compile FILE.py:FACTORY -o F.qtn"),
    ]
    return "\nNext\n" + "".join(f"  {what}:\n    {how}\n" for what, how in steps) + "\n"


def called() -> str:
    """How to call quatrain from here: by its name where the shell finds it."""
    if shutil.which("quatrain"):
        return "quatrain"
    script = Path(sys.executable).with_name("quatrain")
    if not script.exists():
        return f"{Path(sys.executable).name} -m quatrain"
    if script.is_relative_to(Path.cwd()):
        return f"{os.curdir}{os.sep}{script.relative_to(Path.cwd())}"
    return str(script)
