"""What a word on the command line names: captured programs with what they start from.

NET.qtn             its programs, state and hyper-parameters; a batch is drawn
FILE.py:FACTORY     the task that it returns, captured: its example is the batch
PROGRAM.qt          a dumped text; what it starts from is drawn
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.errors import QuatrainError, UsageError
from ...compiler.ir import Program
from ...compiler.ir.verify import read_program
from ...passes.recipe import Recipe
from ...runtime.bundle import read
from ..files import factory_file, read_text
from ..stages import stage
from .start import QTN, GivenArray, numbers_of

if TYPE_CHECKING:
    from ..driver import Task

TEXT = ".qt"


@dataclass(frozen=True, slots=True)
class Named:
    """A network or a program as it was named, ahead of all passes but those it has had.

    ``recipe`` is its own; None of a text, or where none was chosen. ``numbers`` are inputs and
    state by name, ``allow`` layers that may run in float.
    """

    word: str
    train: Program
    evaluation: Program | None
    recipe: Recipe | None
    numbers: Mapping[str, GivenArray]
    allow: tuple[str, ...] = ()


def named(word: str, seed: int) -> Named:
    """Read or capture what ``word`` names; UsageError where it is none of the three."""
    if word.endswith(QTN):
        return _file(word)
    if word.rpartition(":")[0].endswith(".py"):
        return _task(word, seed)
    if word.endswith(TEXT):
        return Named(word, text_program(Path(word)), None, None, {})
    raise UsageError(
        f"{word!r} is no NET{QTN}, no FILE.py:FACTORY and no PROGRAM{TEXT}; name one of these"
    )


def text_program(path: Path) -> Program:
    """The program of a text file; an error names file and line."""
    text = read_text(path)
    try:
        return read_program(text)
    except QuatrainError as error:
        raise type(error)(f"{path}: {error}") from None


def _file(word: str) -> Named:
    bundle = read(Path(word))
    allow = bundle.manifest.get("allow")
    return Named(
        word,
        bundle.train,
        bundle.evaluation,
        bundle.recipe,
        numbers_of(bundle.state, bundle.manifest),
        tuple(map(str, allow)) if isinstance(allow, list) else (),
    )


def _task(word: str, seed: int) -> Named:
    factory_file(word)  # a missing file is found before seconds go to torch
    with stage("load torch"):
        from .. import factory
        from ..bare_flags import BareFlags
        from ..bare_model import task_of
    with stage("make the model"):
        task = task_of(factory.make(word), word, BareFlags(), None, seed)
    return captured(word, task)


def captured(word: str, task: Task) -> Named:
    """A task under a name, its example as the batch."""
    with stage("capture"):
        from ...compiler.capture.program import capture

        made = capture(task.model, task.loss, task.example, task.optimizer)
    hyper = made.optimizer.initial()
    batch = [v.name for v in made.train.inputs if v.name not in hyper]
    numbers: dict[str, GivenArray] = dict(made.state)
    numbers |= {k: np.asarray(x, np.float32) for k, x in hyper.items()}
    numbers |= {n: t.detach().numpy() for n, t in zip(batch, task.example, strict=True)}
    return Named(word, made.train, made.evaluation, None, numbers)
