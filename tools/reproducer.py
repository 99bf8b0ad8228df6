"""A pass that fails leaves one file that repeats it: the program it was given, and how."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..compiler.errors import FailedPass, QuatrainError
from . import env
from .dump import MARK, plain
from .files import make_folder, write_text

FAILED = "failed"


@contextmanager
def repeatable() -> Iterator[None]:
    """Write such a file where a pass fails in the block, and let the error say where it is.

    It goes to the folder for dumps; without one to the folder for temporary files, unless the pass
    has refused in a sentence of its own, which a person can act on.
    """
    try:
        yield
    except QuatrainError as error:
        failed, error.failed = error.failed, None
        folder = env.dump_dir()
        if failed is None or (failed.refused and folder is None):
            raise
        try:
            path = _write(folder, failed, error)
        except (QuatrainError, OSError):
            raise error from error.__cause__
        first, *rest = str(error).split("\n")
        error.args = ("\n".join([f"{first}; to repeat it, {path} says how", *rest]),)
        raise


def _write(folder: Path | None, failed: FailedPass, error: QuatrainError) -> Path:
    label = plain(failed.label)
    if folder is None:
        handle, name = tempfile.mkstemp(prefix=f"quatrain-{FAILED}-{label}-", suffix=".qt")
        os.close(handle)
        path = Path(name)
    else:
        path = make_folder(folder) / f"{FAILED}-{label}.qt"
    write_text(path, reproducer(failed, error, path))
    return path


def reproducer(failed: FailedPass, error: QuatrainError, path: Path) -> str:
    """The program that a pass was given, behind lines that say what happened to it."""
    said = [f"{MARK}{failed.label} failed on this program with {type(error).__name__}:"]
    said += [f"#     {line}" for line in str(error).splitlines()]
    said += [f"# again: quatrain opt {path} --pass {shlex.quote(failed.words)}"]
    return "\n".join([*said, failed.text])
