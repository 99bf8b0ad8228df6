"""``quatrain opt``: IR text in, passes, IR text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..compiler.errors import FileError, QuatrainError, UsageError, closest
from ..compiler.ir import Program
from ..compiler.text import parse, show
from ..compiler.verify import verify
from ..passes import PASSES
from ..passes.options import options_of, read_options
from . import terminal
from .files import check_writable, read_text, write_text

STDIN = Path("-")

Source = Annotated[Path, typer.Argument(metavar="PROGRAM.qt|-", help="IR text, or - for stdin.")]
Passes = Annotated[
    list[str] | None,
    typer.Option("--pass", metavar="NAME[:key=value,...]", help="In this order; may repeat."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Instead of stdout.")]
ListPasses = Annotated[bool, typer.Option("--list", help="List the passes with their options.")]


def command(
    source: Source = STDIN,
    passes: Passes = None,
    output: Output = None,
    list_passes: ListPasses = False,
) -> None:
    """Run passes over a program's text; without --pass it is checked and printed in one form."""
    if list_passes:
        terminal.line("\n".join(signature(name) for name in PASSES))
        return
    if output is not None:
        check_writable(output)
    steps = [parse_pass(word) for word in passes or ()]
    program = _read(source)
    for name, options in steps:
        program = apply_pass(program, name, options)
    if output is not None:
        write_text(output, show(program))
    else:
        terminal.line(show(program))


def parse_pass(word: str) -> tuple[str, dict[str, str]]:
    """``NAME:key=value,key=value``; a part without ``=`` continues the value ahead of it."""
    name, _, tail = word.partition(":")
    if name not in PASSES:
        raise UsageError(f"no pass is called {name!r}; {closest(name, PASSES)}")
    options: dict[str, str] = {}
    key = ""
    for part in tail.split(",") if tail else ():
        if "=" in part:
            key, _, value = part.partition("=")
            if key in options:
                raise UsageError(f"--pass {word!r} gives {key!r} twice; give it once")
            options[key] = value
        elif key:
            options[key] += f",{part}"
        else:
            raise UsageError(f"--pass {word!r}: {part!r} is no key=value; {signature(name)}")
    return name, options


def apply_pass(program: Program, name: str, raw: dict[str, str]) -> Program:
    """The verified result of one pass with options as a person typed them."""
    function = PASSES[name]
    settings = read_options(name, options_of(function), raw)
    return verify(function(program, **settings))


def signature(name: str) -> str:
    """A pass with its options and their defaults, as it is typed after ``--pass``."""
    options = options_of(PASSES[name]).values()
    pairs = ",".join(f"{o.name}={str(o.default).lower()}" for o in options)
    return f"{name}:{pairs}" if pairs else name


def _read(source: Path) -> Program:
    text = _stdin() if source == STDIN else read_text(source)
    where = "stdin" if source == STDIN else str(source)
    try:
        return verify(parse(text))
    except QuatrainError as error:
        raise type(error)(f"{where}: {error}") from None


def _stdin() -> str:
    if sys.stdin.isatty():
        raise UsageError("give a file with IR text, or - and the text on standard input")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise FileError(f"standard input is no text (byte {error.start} is no UTF-8)") from error
