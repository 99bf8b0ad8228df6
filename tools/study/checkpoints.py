"""The files that checkpoints of a study's trainings are: names, and what is done with old ones."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

SUFFIX, UNFIT = ".qtn", ".unfit.qtn"


def checkpoint_file(result: Path) -> Path:
    """The checkpoint of the training whose result is ``result``."""
    return result.with_suffix(SUFFIX)


def set_aside(path: Path) -> Path:
    """Where a checkpoint that does not fit is moved to; in place of one that was there."""
    aside = path.with_suffix(UNFIT)
    with suppress(OSError):
        path.replace(aside)
    return aside


def remove(path: Path) -> None:
    """A checkpoint is needed no more, nor are parts of one that a kill has left unfinished."""
    remove_parts(path)
    with suppress(OSError):
        path.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """What a process that was killed while it wrote has left of a checkpoint."""
    for part in path.parent.glob(f".{path.name[:100]}.*"):
        with suppress(OSError):
            part.unlink(missing_ok=True)
