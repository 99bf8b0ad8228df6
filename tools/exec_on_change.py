"""A person's command after each pass that changed the program, with the text's path."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..compiler.errors import UsageError
from ..compiler.ir import Program
from ..compiler.ir.text import show
from ..passes.recipe.recipe import Observer
from . import dump

PATH, PASS = "{}", "{pass}"
STDERR = 2  # what the command says is no result of ours


def check_command(text: str | None) -> list[str]:
    """The words of a command; UsageError where its program is not there. Empty: none."""
    if text is None:
        return []
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--exec-on-change {text!r}: {error}") from error
    if not words:
        raise UsageError("--exec-on-change is empty; give a command, such as 'quatrain run-ir'")
    if shutil.which(words[0]) is None:
        raise UsageError(f"--exec-on-change: there is no program {words[0]!r} to run")
    return words


@contextmanager
def watched(program: Program, command: Sequence[str], named: Path | None) -> Iterator[Observer]:
    """What sees each pass: it dumps texts to the folder named, and runs ``command`` on changes.

    Without a folder the texts are gone afterwards, but for one that the command failed on.
    """
    with TemporaryDirectory(prefix="quatrain-") as temporary:
        folder = Path(temporary) if named is None else named
        write = dump.observer(folder, program) if named or command else _ignore
        before = [show(program)]

        def see(label: str, made: Program) -> None:
            write(label, made)
            text, number = show(made), len(before)
            changed = not dump.idle([("", before[-1]), (label, text)])
            before.append(text)
            if command and changed:
                _run(command, label, dump.place(folder, number, label), keep=named is None)

        yield see


def _ignore(label: str, made: Program) -> None:
    """What sees a pass where nobody asked."""


def _run(command: Sequence[str], label: str, path: Path, *, keep: bool) -> None:
    filled = [w.replace(PATH, str(path)).replace(PASS, label) for w in command]
    words = filled if any(PATH in w for w in command) else [*filled, str(path)]
    try:
        status = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=STDERR).returncode
    except OSError as error:
        raise UsageError(f"--exec-on-change: cannot run {words[0]}: {error.strerror}") from error
    if status:
        text = dump.kept_text(path) if keep else path
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise UsageError(f"after pass {label}: {words[0]} ended with {how}; the text is {text}")
