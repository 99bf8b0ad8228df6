"""``quatrain opt``: IR text in, passes, IR text out."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer
from rich.text import Text

from ...compiler.errors import FileError, QuatrainError, UsageError, closest
from ...compiler.ir import Program
from ...compiler.ir.text import show
from ...compiler.ir.verify import read_program
from ...passes import PASSES
from ...passes.recipe import NOTHING, PassEntry, Recipe
from ...passes.recipe.user_pass import load_pass
from .. import dump, env, terminal
from ..arguments import DumpDirOption
from ..exec_on_change import check_command, watched
from ..files import check_writable, read_text, write_text
from ..reproducer import repeatable

STDIN = Path("-")
INDENT = "      "
OWN = re.compile(r"(.+\.py:\w+)(?::(.*))?")

SourceArgument = Annotated[
    Path, typer.Argument(metavar="PROGRAM.qt|-", help="IR text, or - for stdin.")
]
PassesOption = Annotated[
    list[str] | None,
    typer.Option("--pass", metavar="NAME|FILE.py:FUNCTION[:key=value,...]", help="May repeat."),
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Instead of stdout.")]
ChangeOption = Annotated[
    str | None,
    typer.Option(
        "--exec-on-change",
        metavar="CMD",
        help="Run CMD FILE (or FILE for {}, the pass for {pass}) after each pass that changed it.",
    ),
]
ListPassesOption = Annotated[
    bool, typer.Option("--list", help="List the passes with their options.")
]


def command(
    source: SourceArgument = STDIN,
    passes: PassesOption = None,
    output: OutputOption = None,
    list_passes: ListPassesOption = False,
    exec_on_change: ChangeOption = None,
    dump_dir: DumpDirOption = None,
) -> None:
    """Run passes over a program's text; without --pass it is checked and printed in one form.

    A CMD that ends with another status than 0 stops them there.
    """
    if list_passes:
        _list()
        return
    if output is not None:
        check_writable(output)
    command_of_change = check_command(exec_on_change)
    recipe = Recipe("opt", "", "", tuple(parse_pass(word) for word in passes or ()))
    with env.chosen(dump=dump_dir), repeatable():
        folder = dump.named_folder()
        inside = folder is not None and source.resolve().parent == folder.resolve()
        if inside and dump_dir is not None:
            raise UsageError(
                f"{source} lies in {folder}, whose dumps a new one replaces; name another folder"
            )
        program = read_source(source)
        with watched(program, command_of_change, None if inside else folder) as see:
            made = recipe.apply(program, see)
    texts = [("", show(program)), *((label, show(p)) for label, p in made)]
    dump.remark_idle(texts)
    if output is not None:
        write_text(output, texts[-1][1])
    else:
        terminal.line(texts[-1][1])


def _list() -> None:
    """Each pass as it is typed after ``--pass``, with all defaults, and what it does."""
    console = terminal.out()
    for name, function in PASSES.items():
        typed = signature(name, _entry(name))
        said = (import_module(function.__module__).__doc__ or "").partition("\n")[0]
        said = said.replace("``", "")
        if not console.is_terminal:
            terminal.line(f"{typed}\n{INDENT}{said}")
            continue
        options = _folded(typed, console.width).removeprefix(name)
        terminal.show(Text(name, "bold").append(options, "not bold"))
        terminal.line(fill(said, console.width, initial_indent=INDENT, subsequent_indent=INDENT))


def _folded(typed: str, width: int) -> str:
    """On a line, or on several that a comma ends."""
    lines = [""]
    for part in re.findall(r"[^,]*,?", typed):
        if len(lines[-1] + part) > width:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def parse_pass(word: str) -> PassEntry:
    """``NAME:key=value,key=value``; a part without ``=`` continues the value ahead of it.

    NAME is a pass of quatrain or ``FILE.py:FUNCTION``, whose file runs to find the function.
    """
    own = OWN.fullmatch(word)
    name, _, tail = (own[1], "", own[2] or "") if own else word.partition(":")
    options: dict[str, str] = {}
    key = ""
    entry = _entry(name)
    for part in tail.split(",") if tail else ():
        if "=" in part:
            key, _, value = part.partition("=")
            if key in options:
                raise UsageError(f"--pass {word!r} gives {key!r} twice; give it once")
            options[key] = value
        elif key:
            options[key] += f",{part}"
        else:
            raise UsageError(f"--pass {word!r}: {part!r} is no key=value; {signature(name, entry)}")
    return entry.set(options)


def _entry(name: str) -> PassEntry:
    if OWN.fullmatch(name):
        function, origin = load_pass(name, Path())
        return PassEntry(function, NOTHING, origin)
    if name not in PASSES:
        hint = closest(name, PASSES)
        raise UsageError(f"no pass is called {name!r}; one of your own is FILE.py:FUNCTION; {hint}")
    return PassEntry(name, NOTHING)


def signature(name: str, entry: PassEntry) -> str:
    """A pass with its options and their defaults, as it is typed after ``--pass``."""
    pairs = ",".join(f"{o.name}={str(o.default).lower()}" for o in entry.options().values())
    return f"{name}:{pairs}" if pairs else name


def read_source(source: Path) -> Program:
    """The program of a text, or of stdin; an error names file and line."""
    text = _stdin() if source == STDIN else read_text(source)
    where = "stdin" if source == STDIN else str(source)
    try:
        return read_program(text)
    except QuatrainError as error:
        raise type(error)(f"{where}: {error}") from None


def _stdin() -> str:
    if sys.stdin.isatty():
        raise UsageError("give a file with IR text, or - and the text on standard input")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise FileError(f"standard input is no text (byte {error.start} is no UTF-8)") from error
