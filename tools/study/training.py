"""One training, seen from outside its process: step by step, and again where that has died."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import env
from ..bench.process import ContenderDied, ContenderFailed, ContenderLate, thread_variables
from .folder import ABOUT, Result
from .processes import Process

# Seconds between two signs of life, and the most steps between them.
SIGN_SECONDS, MOST_STEPS = 1.0, 1000
TRIES = 3  # of a training whose process dies
# Of a training under way: no part of its result.
SAID = ("done", "remark")


@dataclass(frozen=True, slots=True)
class Errand:
    """A training that a worker carries out, here or on another machine: plain data.

    ``request`` is what its process is asked to build; nothing may take longer than ``limit``.
    """

    number: int
    name: str
    request: Mapping[str, Any]
    limit: float

    @property
    def steps(self) -> int:
        """All steps of the training."""
        return int(self.request["script"]["steps"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an errand: a ``result`` whose ``error`` is None or says why there is none.

    ``remarks`` were not shown yet. A training that has not ``ended`` by itself may go on later.
    """

    number: int
    result: Result
    remarks: tuple[str, ...] = ()
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process elsewhere is given of this one's: variables, and the folder of the command."""

    variables: Mapping[str, str]
    folder: str

    @classmethod
    def here(cls, threads: int) -> Surroundings:
        """Those of this process, with so many threads."""
        own = {name: os.environ[name] for name in env.NAMES if name in os.environ}
        return cls({**own, **thread_variables(threads)}, str(Path.cwd()))


class Signs(Protocol):
    """Who is told how a training goes; a ``StudyProgress``, or notes to be shown later."""

    def say(self, words: str) -> None:
        """What is being done now."""

    def advance(self, steps: int, words: str) -> None:
        """So many steps are done."""

    def line(self, words: str) -> None:
        """What is worth a line."""


class SignsNoted:
    """Signs of a training on another machine: its lines are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, words: str) -> None:
        """Nobody sees it."""

    def advance(self, steps: int, words: str) -> None:
        """Nobody sees it."""

    def line(self, words: str) -> None:
        """Keep it."""
        self.lines.append(words)


class SignsCounted:
    """Signs, with the steps that they have told of so far."""

    def __init__(self, signs: Signs) -> None:
        self.line, self.say, self._advance = signs.line, signs.say, signs.advance
        self.steps = 0

    def advance(self, steps: int, words: str) -> None:
        """So many steps are done."""
        self.steps += steps
        self._advance(steps, words)


def carry_out(errand: Errand, process: Process, signs: Signs) -> Outcome:
    """The training from its first step, or its checkpoint, to its accuracy.

    One whose process dies is tried again, ``TRIES`` times in all.
    """
    for left in reversed(range(TRIES)):
        told = SignsCounted(signs)
        try:
            facts = _driven(errand, process, told)
            result = {k: v for k, v in facts.items() if not k.endswith("_bytes") and k not in SAID}
            return Outcome(errand.number, {"error": None, **result})
        except ContenderDied as died:
            if process.closed:
                raise
            if left:
                told.advance(-told.steps, f"{errand.name}: again")
                signs.line(f"{errand.name}: {died}; it is tried again, {left} more times at most")
                continue
            why, ended = f"{died}, {TRIES} times", False
        except ContenderFailed as failure:
            why, ended = str(failure), not isinstance(failure, ContenderLate)
        break
    told.advance(errand.steps - told.steps, errand.name)
    return Outcome(errand.number, {"error": why}, ended=ended)


def _driven(errand: Errand, process: Process, signs: Signs) -> dict[str, Any]:
    """The facts at the end."""
    name, batch, pace = errand.name, errand.request["script"]["batch"], 0.0
    signs.say(f"{name}: compile")
    worker = process.worker
    begun = worker.ask("build", errand.limit, **errand.request)
    done = begun["done"]
    signs.advance(done, name)
    if begun["remark"]:
        signs.line(f"{name} {begun['remark']}")
    while done < errand.steps:
        steps = max(1, min(MOST_STEPS, errand.steps - done, _steps(pace)))
        seconds = worker.ask("run", errand.limit, steps=steps)["seconds"]
        pace, done = sum(seconds) / steps, done + steps
        rate = (batch or 1) * steps / max(sum(seconds), 1e-9)
        unit = "samples" if batch else "steps"
        signs.advance(steps, f"{name}: {rate:.{0 if batch else 1}f} {unit}/s")
    facts = worker.ask("facts", errand.limit)
    if facts["remark"] not in ("", begun["remark"]):
        signs.line(f"{name} {facts['remark']}")
    return facts


def _steps(pace: float) -> int:
    return round(SIGN_SECONDS / pace) if pace else 1


def carry_out_elsewhere(errand: Errand, around: Surroundings) -> Outcome:
    """The same in a process that a cluster has started: there is no bar, and perhaps no folder.

    A checkpoint is kept where the study's folder is seen from there.
    """
    kept = errand.request.get("checkpoint")
    if kept is not None and not (Path(kept).parent / ABOUT).is_file():
        request = {**errand.request, "checkpoint": None}
        errand = Errand(errand.number, errand.name, request, errand.limit)
    folder, notes = Path(around.folder), SignsNoted()
    with Process(around.variables, folder if folder.is_dir() else None) as process:
        made = carry_out(errand, process, notes)
    return Outcome(made.number, made.result, tuple(notes.lines), made.ended)
