"""``quatrain run-ir``: a program's text runs as it stands, so that a bug report is one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...compiler.errors import UsageError
from ...targets.registry import find_target
from ...targets.seen import seen
from .. import env, terminal
from ..arguments import CacheDirOption, JsonOption, ThreadsOption
from ..binding import bind_options
from ..compare.results import results, results_dict, results_table, write_results
from ..compare.side import REFERENCE
from ..compare.start import QTN, check_names, read_numbers, said_of_drawn, start
from ..files import check_writable
from ..stages import stage
from .opt import read_source

TextArgument = Annotated[
    Path, typer.Argument(metavar="PROGRAM.qt|-", help="A dumped text, or - for stdin.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FILE.safetensors|NET.qtn", help="Inputs and state by name."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Draws the inputs and state nobody gives.")]
OnOption = Annotated[str, typer.Option("--target", metavar="NAME", help="reference, cpu, cuda ...")]
ValueOption = Annotated[
    list[str] | None,
    typer.Option("--value", metavar="PATTERN", help="Also these values: 'conv*'; may repeat."),
]
FloatOption = Annotated[
    list[str] | None, typer.Option("--allow", metavar="PATTERN", help="Layers in float: 'fc*'.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE.safetensors", help="Save all that is shown."),
]


def command(
    source: TextArgument,
    state: StateOption = None,
    seed: SeedOption = 0,
    target: OnOption = REFERENCE,
    values: ValueOption = None,
    output: OutputOption = None,
    allow: FloatOption = None,
    as_json: JsonOption = False,
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Run a program's text once, on numbers that are drawn or given, and print its results."""
    chosen = find_target(target)
    if output is not None:
        check_writable(output)
    if source.suffix == QTN:
        raise UsageError(
            f"{source} is a network; its text is what quatrain inspect {source} prints"
        )
    program = read_source(source)
    given = read_numbers(state) if state is not None else {}
    check_names(program, given, str(state))
    lowered = [program, *(made for _, made in chosen.lower(program, allow or ()))][-1]
    numbers, drawn = start(lowered, given, seed)
    with env.chosen(threads=threads, cache=cache_dir), stage(f"run {source} on {chosen.name}"):
        found = seen(chosen, lowered, numbers, bind_options())
    made = results(lowered, found, values or ())
    if output is not None:
        write_results(output, made)
    if drawn:
        terminal.remark(said_of_drawn(drawn, len(numbers), seed))
    if as_json:
        about = {"program": program.name, "target": chosen.name, "seed": seed, "drawn": drawn}
        terminal.write_json({**about, "results": results_dict(made)})
    else:
        terminal.show(results_table(made))
