"""A built step: ``step(x, y)`` and what goes with it, on machine code that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from threading import RLock

import numpy as np

from ...compiler.errors import FileError, InputError, ParseError, TargetError, VerifyError, shown
from ...compiler.ir import Program
from ...compiler.ir.verify import read_program
from ...targets.plan.state import aligned_bytes
from ...targets.plan.stored import StoredCode
from ...targets.registry import BindOptions, Target, find_target
from ..arrays import plain
from ..files import path_of, write_bytes
from ..hyper import check_hyper
from ..state import State
from ..taken import check_numbers
from ..telling import told
from .batch import as_array, check_arrays
from .folder import (
    MANIFEST,
    PREDICT,
    PROGRAM,
    RUNTIME,
    STATE,
    check_place,
    read_file,
    read_manifest,
    write_folder,
)
from .manifest import Manifest
from .predictor import BuiltPredictor
from .tensors import read, write

HYPER = "hyper"  # the note in the state's file


class BuiltStep:
    """A training step that was built ahead of time, with its state; see ``load``.

    ``hyper`` are the hyper-parameters by name, read at every call.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        state: Mapping[str, np.ndarray],
        target: Target,
        threads: int | None,
    ) -> None:
        self.folder, self.manifest, self.target = folder.absolute(), manifest, target.name
        self.hyper: dict[str, float] = dict(manifest.hyper)
        code = StoredCode(folder, manifest.kernels, manifest.machine, manifest.settle)
        built = target.load(code, manifest.kept, BindOptions(threads=threads))
        self._lock = RLock()
        self._program = manifest.step.plan.program
        self._batch = [v for v in self._program.inputs if v.name not in manifest.hyper]
        self._names = [v.name for v in self._program.inputs if v.name in manifest.hyper]
        self._numbers = [aligned_bytes(4).view(np.float32).reshape(()) for _ in self._names]
        self._executable = built.executable(manifest.step.plan)
        self._state = State(manifest.kept, state, built.memory)
        predict = built.executable(manifest.predict.plan)
        layout = manifest.kept.layout
        self._predictor = BuiltPredictor(manifest.predict, predict, layout, built.memory)

    def __repr__(self) -> str:
        """Network, recipe, target and the batch that the step was built for."""
        shapes = ("x".join(map(str, v.type.shape)) or "scalar" for v in self._batch)
        m = self.manifest
        return f"<BuiltStep {m.network}: {m.recipe} on {self.target}, batch {', '.join(shapes)}>"

    def __call__(self, *batch: object) -> np.float32:
        """Run one step on ``(x, y)``; return the loss.

        Raises InputError, and changes nothing, for a batch that does not fit. A step whose loss,
        gradients or statistics are not finite is not applied, and ``skipped`` counts it.
        """
        with self._lock:
            ready = check_arrays(batch, self._batch)
            check_numbers(ready, self._batch, self.manifest.step.checks)
            numbers = check_hyper(self.hyper, self._names, tuple(self.manifest.hyper))
            for array, number in zip(self._numbers, numbers, strict=True):
                array[...] = number
            given = (*ready, *self._numbers)
            loss, *_ = self._executable.run(given, self._state.old, self._state.new)
            self._state.commit()
        return np.float32(plain(loss, self._program.outputs[0].type)[()])

    def predict(self, *x: object) -> np.ndarray | tuple[np.ndarray, ...]:
        """The quantized forward in eval mode: samples in, one row of outputs each."""
        with self._lock:
            made = self._predictor.run(x, self._state.old)
        return made[0] if len(made) == 1 else tuple(made)

    @property
    def skipped(self) -> int:
        """The steps of the network's life that were not applied."""
        with self._lock:
            return self._state.skipped

    @property
    def program(self) -> Program:
        """The program that was built, after all passes and the target's own stages."""
        try:
            return read_program(read_file(self.folder, PROGRAM).decode())
        except (UnicodeDecodeError, ParseError, VerifyError):
            raise FileError(f"{self.folder}: {PROGRAM} is damaged; build it again") from None

    @property
    def seed(self) -> int:
        """Where the generator of dropout and of stochastic rounding started."""
        return self.manifest.seed

    @property
    def compiled_hyper(self) -> dict[str, float]:
        """The hyper-parameters that the step was compiled with."""
        return dict(self.manifest.hyper)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything the step carries, by name."""
        with self._lock:
            return self._state.read()

    def load_state(self, values: Mapping[str, object]) -> None:
        """Set state values by name; InputError, with nothing changed, for one that does not fit."""
        if not isinstance(values, Mapping):
            raise InputError(f"{shown(values)} is no state; give a dictionary of arrays by name")
        arrays = {
            k: np.asarray(v) if isinstance(v, int | float) else as_array(str(k), v)
            for k, v in values.items()
        }
        with self._lock:
            self._state.load(arrays)

    def state_dict(self, *, average: bool = False) -> dict[str, np.ndarray]:
        """Parameters and buffers as the model names them; with ``average`` averaged weights."""
        names = dict(self.manifest.model_state)
        if average:
            if not self.manifest.average_state:
                raise InputError("the step keeps no average of its weights; compile with average=")
            names |= self.manifest.average_state
        state = self.state
        return {key: state[name] for key, name in names.items()}

    def save(self, folder: str | Path | None = None) -> None:
        """Write state and hyper-parameters into the step's folder, or all of it into another one.

        Whole or not at all; another build that is there gives way, and one that differs in nothing
        else gets the new state alone.
        """
        place = self.folder if folder is None else path_of(folder)
        with self._lock:
            state = state_bytes(self._state.read(), self.hyper)
        if self._is_at(place):
            write_bytes(place / STATE, state)
            return
        check_place(place)
        names = {kernel.file for kernel in self.manifest.kernels}
        names |= {n for n in (MANIFEST, PROGRAM, PREDICT, RUNTIME) if (self.folder / n).exists()}
        contents = {name: read_file(self.folder, name) for name in sorted(names)}
        write_folder(place, {**contents, STATE: state})

    def _is_at(self, place: Path) -> bool:
        if place.absolute() == self.folder:
            return True
        there = (place / MANIFEST).is_file()
        return there and read_file(place, MANIFEST) == read_file(self.folder, MANIFEST)


def state_bytes(state: Mapping[str, np.ndarray], hyper: Mapping[str, float]) -> bytes:
    """The contents of the state's file."""
    return write(state, {HYPER: json.dumps(dict(hyper), sort_keys=True)})


def load(folder: str | Path, *, target: str | None = None, threads: int | None = None) -> BuiltStep:
    """The step that ``quatrain build`` put into a folder, with its state, ready to run.

    ``target`` says which GPU runs it, as in ``cuda:1``; the first by default. ``threads`` is how
    many a CPU runs it on; all by default. Raises FileError where the folder is no build, or
    damaged, and TargetError where this machine does not run its machine code.
    """
    path = path_of(folder)
    with told(f"load {path}"):
        manifest = read_manifest(path)
        chosen = _chosen(path, manifest, target)
        try:
            state, notes = read(read_file(path, STATE))
            hyper = {str(k): float(v) for k, v in json.loads(notes[HYPER]).items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FileError(f"{path}: {STATE} is damaged; build it again") from None
        try:
            step = BuiltStep(path, manifest, state, chosen, threads)
        except InputError as error:
            raise FileError(f"{path}: {STATE}: {error}") from None
    step.hyper.update(hyper)
    return step


def _chosen(path: Path, manifest: Manifest, target: str | None) -> Target:
    """The target that runs a build: machine code is there for one CPU or GPU alone."""
    found = find_target(target or manifest.target)
    if found.family != manifest.target or found.mcpu:
        raise TargetError(
            f"{path} is built for {manifest.target}; build the network again for {found.name}"
        )
    return found
