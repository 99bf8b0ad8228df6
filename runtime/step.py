"""A compiled training step: runs it, carries its state, shows how it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from threading import RLock
from typing import Any, Literal, overload

import numpy as np
import torch

from ..compiler.errors import FileError, InputError, RecipeError, closest, shown
from ..compiler.ir import Program, Value
from ..compiler.ir.optimizers import HasGroups
from ..compiler.ir.text import show
from ..compiler.types import Shape
from ..passes.average_weights import AVERAGE
from ..passes.skip_nonfinite import skip_counter
from ..targets.registry import BindOptions, Executable, find_target
from .bound import BoundProgram
from .bundle import Bundle, pack, read, unpack, write
from .evaluation import Predictor, Reevaluate
from .export import check_export, export
from .files import path_of
from .hyper import check_hyper, remark_ignored
from .initial import initial_state, kept_of
from .inputs import check_dense
from .moments import in_codes, in_numbers
from .report.bill import make_bill, with_spent
from .reported import StepBill, report_of
from .source import Source, mapping, source_of
from .state import State
from .telling import LOG, told
from .watching.watcher import Watcher

# For a batch, or with none for that of the example; with outputs or without.
Recapture = Callable[[Sequence[torch.Tensor], bool], Source]
Shapes = tuple[Shape, ...]
PICKLED = Path("the pickled step")


class Step:
    """One whole training step: ``step(x, y)`` runs forward, backward and update.

    ``optimizer`` is the torch optimizer whose hyper-parameters are read at every call (without one
    those of ``hyper`` hold); ``recapture`` makes the source for another batch shape,
    ``reevaluate`` the evaluation for another number of samples.
    """

    def __init__(
        self,
        source: Source,
        state: Mapping[str, np.ndarray],
        options: BindOptions,
        *,
        optimizers: Sequence[HasGroups] = (),
        recapture: Recapture | None = None,
        reevaluate: Reevaluate | None = None,
    ) -> None:
        self.source, self.options = source, options
        self.hyper: dict[str, float] = source.optimizer.initial()
        self._read = dict(self.hyper)  # as the optimizer last had them
        self._optimizers, self._recapture, self._reevaluate = optimizers, recapture, reevaluate
        # A thread at a time: programs share their memory, and a step reads what the last one wrote.
        self._lock, self._memory = RLock(), find_target(source.target).memory(options)
        self._main = BoundProgram(source, options, self._memory)
        program = self._main.program
        whole = initial_state(program, state, source.seed)
        self._state = State(kept_of(program), whole, self._memory)
        self._variants: dict[tuple[Shapes, bool], BoundProgram] = {}
        self._predictor: Predictor | None = None
        self._watchers: list[Watcher] = []

    def __repr__(self) -> str:
        """Network, recipe, target and the batch that the step is made for."""
        batch = _words(v.type.shape for v in self._main.batch)
        s = self.source
        return f"<Step {s.train.name}: {s.recipe.name} on {s.target}, batch {batch}>"

    @overload
    def __call__(self, *batch: torch.Tensor, outputs: Literal[False] = False) -> torch.Tensor: ...

    @overload
    def __call__(
        self, *batch: torch.Tensor, outputs: Literal[True]
    ) -> tuple[torch.Tensor, Any]: ...

    def __call__(
        self, *batch: torch.Tensor, outputs: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Run one step on ``(x, y)``; return the loss, a 0-d float32 tensor.

        With ``outputs`` the loss and what the model returned in this step's forward, ahead of the
        update, in the form of ``predict``; the first such call compiles the step once more.

        ``x`` and ``y`` have the shapes of the example batch; another batch size compiles once more
        where the step was made from a model. Raises InputError, and changes nothing, for a batch
        that does not fit or holds NaN or infinity. A step whose loss, gradients or statistics are
        not finite is not applied: ``skipped`` counts it, GradScale's scales react, all other state
        stays, and the loss is returned as it came out.

        On a GPU tensors that lie there are taken as they are, the loss stays there, and nobody
        waits: a batch that holds NaN or a wrong label changes nothing either, and is told by
        InputError at a later call, or when the state is read.
        """
        with self._lock:
            bound = self._for_batch(batch, check_flag("outputs", outputs))
            ready = bound.edge.ready(batch)
            self._read_hyper(bound)
            for watcher in self._watchers:
                watcher.see(bound, ready, self._state)
            loss, *rest = bound.edge.run(ready, bound.hyper, self._state.old, self._state.new)
            self._state.commit()
        return (loss, _returned(rest)) if outputs else loss

    def predict(self, *x: torch.Tensor) -> Any:
        """The quantized forward in eval mode: any number of samples in, one row of outputs each.

        Running statistics, learned clips and scales of the current weights. A model with several
        inputs takes several tensors; one with several outputs gives a tuple.
        """
        with self._lock:
            if self._predictor is None:
                given = self.source, self.options, self._state.layout
                with told("compile for predict"):
                    self._predictor = Predictor(*given, self._memory, self._reevaluate)
            made = self._predictor.run(x, self._state.old)
        return _returned(made)

    def watch(
        self, *tensors: str, every: int = 50, fp32: int = 5, to: str | Path | None = None
    ) -> Watcher:
        """Look at tensors in every ``every``-th step: how they are rounded, how far from f32.

        ``tensors`` are roles and patterns of names, such as ``"dy"``, ``"*.dw"``, ``"layer1.*"``;
        without one what products read and dW. In every ``fp32``-th look the step also
        runs in f32, from the same state. ``to`` is a folder for a file of rows and for TensorBoard.
        No number of the training changes. See docs/watching.md; InputError for what there is not.
        """
        with self._lock:
            watcher = Watcher(self._main, self._state, tensors, every=every, fp32=fp32, to=to)
            self._watchers = [w for w in self._watchers if not w.closed] + [watcher]
        return watcher

    @property
    def skipped(self) -> int:
        """The steps of the network's life that were not applied."""
        with self._lock:
            self._look()
            return self._state.skipped

    @property
    def program(self) -> Program:
        """The final program of the training step; ``str`` gives its text."""
        return self._main.program

    @property
    def executable(self) -> Executable:
        """The training step bound to its target, with the plan of its kernels."""
        return self._main.executable

    @property
    def seed(self) -> int:
        """Where the generator of dropout and of stochastic rounding started."""
        return self.source.seed

    @property
    def compiled_hyper(self) -> dict[str, float]:
        """The hyper-parameters that the step was compiled with."""
        return self.source.optimizer.initial()

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the passes that ran, in order; a repeated one is ``name#2``.

        Stages of the target that changed the program stand behind those of the recipe.
        """
        return tuple(name for name, _ in self._main.stages)

    def ir(self, after: str | None = None) -> str:
        """Text of the program after the pass ``after``; of the final one without it."""
        if after is None:
            return show(self.program)
        found = dict(self._main.stages)
        if not isinstance(after, str) or after not in found:
            hint = closest(str(after), self.passes)
            raise RecipeError(f"no pass of this step is called {shown(after)}; {hint}")
        return show(found[after])

    def report(self) -> StepBill:
        """The bill: what multiplied in which format, what was kept; prints as tables.

        ``report().html("net.html")`` draws it, with the program after every pass, as one file.
        """
        s, made = self.source, self.executable
        bill = make_bill(
            made.program,
            made.plan,
            captured=s.train,
            recipe=s.recipe,
            target=s.target,
            allow=s.allow,
            torch_saved=s.torch_saved,
        )
        return report_of(with_spent(bill, self._snapshot()), s, self._main.stages, made.plan)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Copies of everything the step carries, by name."""
        return {k: torch.from_numpy(v) for k, v in self._snapshot().items()}

    @property
    def decoded_state(self) -> dict[str, torch.Tensor]:
        """The same with f32 numbers in place of codes and scales of what the optimizer averages."""
        made = in_numbers(self._state.layout.types, self._snapshot())
        return {k: torch.from_numpy(v) for k, v in made.items()}

    def load_state(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """Set state values by name; InputError, with nothing changed, for one that does not fit."""
        if not isinstance(values, Mapping):
            raise InputError(f"{shown(values)} is no state; give a dictionary of tensors by name")
        arrays = {k: _array(k, v) for k, v in values.items()}
        with self._lock:
            self._state.load(in_codes(self._state.layout.types, arrays))

    def state_dict(self, *, average: bool = False) -> dict[str, torch.Tensor]:
        """Parameters and buffers as the plain model names them; loads into it strictly.

        With ``average`` the moving averages of the parameters; InputError where none are kept.
        """
        check_flag("average", average)
        state, names = self._snapshot(), dict(self.source.model_state)
        if average:
            kept = {k: name + AVERAGE for k, name in names.items() if name + AVERAGE in state}
            if not kept:
                raise InputError("the step keeps no average of its weights; compile with average=")
            names |= kept
        return {k: torch.from_numpy(state[name]) for k, name in names.items()}

    def save(self, path: str | Path) -> None:
        """Write the step and all its state to a ``.qtn`` file, whole or not at all."""
        write(self.bundle(), path_of(path))

    def export(self, path: str | Path, *, dialect: str = "qdq", exact: bool = False) -> None:
        """Write what ``predict`` computes to an ONNX file; see ``runtime/export.py``."""
        for remark in export(
            self.source, self._snapshot(), path, dialect=dialect, exact=exact
        ).remarks:
            LOG.info("%s", remark)

    def check_export(self, *, dialect: str = "qdq") -> None:
        """Raise the ExportError that ``export`` would; in a moment, without the package onnx."""
        check_export(self.source, dialect=dialect)

    def __reduce__(self) -> tuple[Callable[..., Step], tuple[bytes, BindOptions]]:
        """A copy, or what is pickled, is the step as saved and loaded: with all its state.

        Like a loaded one it has no model and no optimizer: the hyper-parameters stay those of
        ``hyper``, and the batch size that of the example.
        """
        return _unpickled, (pack(self.bundle()), self.options)

    def bundle(self) -> Bundle:
        """What ``save`` writes."""
        s = self.source
        manifest = {
            "target": s.target,
            "seed": s.seed,
            "allow": list(s.allow),
            "optimizer": asdict(s.optimizer),
            "hyper": self.hyper,
            "model_state": dict(s.model_state),
            "torch_saved": None if s.torch_saved is None else [asdict(k) for k in s.torch_saved],
        }
        return Bundle(s.train, s.evaluation, s.recipe, manifest, self._snapshot())

    def _snapshot(self) -> dict[str, np.ndarray]:
        """All state as it is between two steps."""
        with self._lock:
            self._look()
            return self._state.read()

    def _look(self) -> None:
        """Raise InputError for batches that a device found wrong, see ``Edge``."""
        for bound in (self._main, *self._variants.values()):
            bound.edge.look(wait=True)

    def _read_hyper(self, bound: BoundProgram) -> None:
        if self._optimizers:
            remark_ignored(self.hyper, self._read)
            self._read = self.source.optimizer.read(*self._optimizers)
            self.hyper = dict(self._read)
            # The step is the optimizer's; torch's schedulers warn unless they see it step.
            for optimizer in self._optimizers:
                optimizer._opt_called = True  # type: ignore[attr-defined]
        numbers = check_hyper(self.hyper, bound.hyper_names, self.source.optimizer.inputs())
        for array, number in zip(bound.hyper, numbers, strict=True):
            array[...] = number

    def _for_batch(self, batch: Sequence[object], outputs: bool) -> BoundProgram:
        """The program for the batch; the main one refuses whatever does not fit it."""
        tensors = tuple(t for t in batch if isinstance(t, torch.Tensor))
        for i, tensor in enumerate(tensors):
            check_dense(f"element {i} of the batch", tensor)
        shapes = tuple(tuple(t.shape) for t in tensors)
        for i, shape in enumerate(shapes):
            if 0 in shape:
                raise InputError(f"element {i} of the batch has shape {list(shape)}: no numbers")
        resized = self._recapture is not None and _resized(shapes, self._main.batch)
        if not resized and not outputs:
            return self._main
        if (shapes, outputs) not in self._variants:
            if not resized:
                self._main.edge.ready(batch)
            self._variants[shapes, outputs] = self._variant(tensors if resized else (), outputs)
        return self._variants[shapes, outputs]

    def _variant(self, tensors: Sequence[torch.Tensor], outputs: bool) -> BoundProgram:
        if self._recapture is None:
            raise InputError(
                "outputs=True compiles the step once more from its model, and a loaded step or a "
                "copy has none; compile it from the model and load_state"
            )
        shapes = [tuple(t.shape) for t in tensors]
        what = f"another batch, {_words(shapes)}" if tensors else "the example's batch"
        with told(f"compile for {what}{', with outputs' if outputs else ''}"):
            source, layout = self._recapture(tensors, outputs), self._state.layout
            return BoundProgram(source, self.options, self._memory, layout)


def check_flag(name: str, value: object) -> bool:
    """A flag that is one; InputError for anything else."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {shown(value)}; it is True or False")
    return value


def _returned(outputs: list[torch.Tensor]) -> Any:
    """A single output by itself, of several a tuple."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _words(shapes: Iterable[Shape]) -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _resized(shapes: Shapes, example: Sequence[Value]) -> bool:
    """Whether each tensor has another number of samples than in the example, and is alike else."""
    if len(shapes) != len(example):
        return False
    pairs = zip(shapes, (v.type.shape for v in example), strict=True)
    return all(given[1:] == wanted[1:] and given != wanted for given, wanted in pairs)


def load_step(path: str | Path, options: BindOptions, target: str | None = None) -> Step:
    """The step that ``Step.save`` wrote, with all its state; passes run again.

    Raises FileError where the file is missing, damaged or lacks what a step needs.
    """
    path = path_of(path)
    return _loaded(read(path), path, options, target)


def _unpickled(data: bytes, options: BindOptions) -> Step:
    return _loaded(unpack(data), PICKLED, options)


def _loaded(bundle: Bundle, path: Path, options: BindOptions, target: str | None = None) -> Step:
    try:
        source = source_of(bundle)
        hyper = {k: float(v) for k, v in mapping(bundle.manifest["hyper"]).items()}
    except (KeyError, TypeError, ValueError) as e:
        raise FileError(f"{path}: manifest.json lacks or garbles {e}") from None
    if target is not None:
        source = replace(source, target=find_target(target).name)
    try:
        step = Step(source, bundle.state, options)
    except InputError as e:
        raise FileError(f"{path}: state.safetensors: {e}") from None
    count = skip_counter(step.program)  # files from before steps counted have none
    lost = {v.name for v in step.program.state if v is not count} - bundle.state.keys()
    if lost:
        raise FileError(f"{path}: state.safetensors: the state lacks {min(lost)}")
    step.hyper.update(hyper)
    return step


def _array(name: str, value: object) -> np.ndarray:
    """A tensor, a number or an array as NumPy has it."""
    try:
        made: np.ndarray = torch.as_tensor(value).detach().cpu().numpy()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{name} is a {type(value).__name__}; state is given as tensors or numbers"
        ) from None
    return made
