"""Where output goes: results to stdout, everything about the work to stderr."""

from __future__ import annotations

import io
import json
import sys

from rich.console import Console, RenderableType
from rich.text import Text

from ..runtime.report.fitted import fit
from ..runtime.report.tables import FILE_WIDTH


def out() -> Console:
    """Standard output; colours and the terminal's width only where it is a terminal."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error, for progress and remarks."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def can_say(text: str) -> bool:
    """Whether standard output can write ``text`` as it is."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def spell_what_streams_lack() -> None:
    """Let both streams write letters that their encoding lacks as escapes, where they would raise.

    A name of a file with an accent is no reason to stop.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def show(item: RenderableType) -> None:
    """A table on standard output; without spaces at the ends of lines where it goes to a file."""
    console = out()
    fit(item, console, console.width)
    if console.is_terminal:
        console.print(item)
        return
    with console.capture() as capture:
        console.print(item)
    line("\n".join(text.rstrip() for text in capture.get().splitlines()))


def remark(text: str) -> None:
    """One line on standard error."""
    err().print(Text(text), soft_wrap=True)


def line(text: str) -> None:
    """One line on standard output, never wrapped or coloured: for other programs."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def write_json(value: object, *, indent: int | None = 2) -> None:
    """``value`` as JSON on standard output."""
    line(json.dumps(value, indent=indent, allow_nan=False))
