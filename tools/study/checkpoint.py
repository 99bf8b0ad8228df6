"""The checkpoint of a training under way: its step as a ``.qtn``, with where the training stands.

A training that is stopped goes on from it to the same bytes. It lies beside the results,

NAME-DIGEST.seed0.qtn            and is removed when the result is written
NAME-DIGEST.seed0.unfit.qtn      one that was of another training, or damaged
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import cast

import numpy as np

from ...compiler.errors import FileError, InputError
from ...runtime.bundle import Arrays, Bundle, read, write
from ..same import difference
from .checkpoints import remove_parts, set_aside

SECONDS = 120.0  # between two checkpoints, where no number of steps is given
STANDING = "training"  # in the manifest


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a training stands beside its step.

    ``losses`` are of the steps that were applied, ``lost`` the last ones in a row that were not.
    """

    done: int = 0
    lost: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """Where a checkpoint is kept, if at all, and after how many steps; None: by the clock."""

    path: Path | None = None
    every: int | None = None


NO_CHECKPOINT = CheckpointPlan()


class Keeper:
    """Keeps the checkpoint of one training; ``remark`` says what could not be done with it."""

    def __init__(self, plan: CheckpointPlan, script: Mapping[str, object], begun: Bundle) -> None:
        """``begun`` is the step before its first call."""
        self._plan, self._begun = plan, begun
        self._about = {"script": dict(script), "start": digest(begun.state)}
        self._last = time.monotonic()
        self.remark = ""

    def resume(self, load: Callable[[Arrays], None]) -> Standing:
        """Where a training that was stopped stands, its state loaded; else the beginning.

        A checkpoint that does not fit is set aside.
        """
        path = self._plan.path
        if path is None:
            return Standing()
        remove_parts(path)
        if not path.is_file():
            return Standing()
        try:
            state, standing = self._read(path)
            load(state)
        except (FileError, InputError) as error:
            aside = set_aside(path)
            self.remark = f"begins anew, as its checkpoint does not fit ({aside.name}): {error}"
            return Standing()
        return standing

    def due(self, done: int) -> bool:
        """Whether it is time for a checkpoint, ``done`` steps of the training being over."""
        if self._plan.path is None:
            return False
        if self._plan.every is not None:
            return done % self._plan.every == 0
        return time.monotonic() - self._last >= SECONDS

    def keep(self, bundle: Bundle, standing: Standing) -> None:
        """Write a checkpoint whole or not at all; where that fails the training goes on without."""
        assert self._plan.path is not None, "due comes first"
        where = {"done": standing.done, "lost": standing.lost, "losses": standing.losses}
        manifest = {**bundle.manifest, STANDING: {**self._about, **where}}
        try:
            write(replace(bundle, manifest=manifest), self._plan.path)
        except FileError as error:
            self.remark = f"has no checkpoint: {error}"
        self._last = time.monotonic()

    def _read(self, path: Path) -> tuple[Arrays, Standing]:
        bundle = read(path)
        if said := difference(self._begun, bundle):
            raise FileError(said)
        about = bundle.manifest.get(STANDING)
        if not isinstance(about, dict):
            raise FileError("it is of no training of a study")
        for key, value in self._about.items():
            if about.get(key) != json.loads(json.dumps(value)):
                raise FileError(f"its training had another {key}")
        lacking = self._begun.state.keys() ^ bundle.state.keys()
        if lacking:
            raise FileError(f"its state and that of the network differ in {min(lacking)}")
        return bundle.state, _standing(about)


def _standing(about: Mapping[str, object]) -> Standing:
    try:
        losses = [float(loss) for loss in cast(list[float], about["losses"])]
        found = Standing(cast(int, about["done"]), cast(int, about["lost"]), losses)
    except (KeyError, TypeError, ValueError):
        raise FileError("its manifest lacks where the training stands") from None
    if not isinstance(found.done, int) or not isinstance(found.lost, int):
        raise FileError("its manifest garbles where the training stands")
    return found


def digest(state: Arrays) -> str:
    """Of all numbers of a state, by name."""
    made = sha256()
    for name in sorted(state):
        made.update(name.encode())
        made.update(np.ascontiguousarray(state[name]).tobytes())
    return made.hexdigest()
