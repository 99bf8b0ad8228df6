"""A file of ONNX beside ``predict``: both run the test part of a data set, and are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler.errors import DataError, ExportError
from ..compiler.ir import Program
from .batches import Floats, eval_batches
from .dataset import Array, Dataset

if TYPE_CHECKING:
    from ..runtime.step import Step

# onnxruntime's levels of optimization: it has been wrong at one and right at the other.
LEVELS = {"off": "ORT_DISABLE_ALL", "on": "ORT_ENABLE_ALL"}
ERRORS_ONLY = 3
FileRun = Callable[[Array], "list[Array]"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike the outputs of all samples are, with onnxruntime's optimizations off or on.

    ``equal`` counts the samples whose outputs are the same to the bit, ``same`` the places whose
    largest class is (of ``places``; none where the outputs are no classes).
    """

    optimizations: str
    samples: int
    equal: int
    largest: float
    same: int
    places: int

    def __str__(self) -> str:
        """One line."""
        top = f"top-1 agreement {self.same:,} of {self.places:,}, " if self.places else ""
        return (
            f"onnxruntime, optimizations {self.optimizations}: {top}largest difference "
            f"{self.largest:.3g}, {self.equal:,} of {self.samples:,} samples equal to the bit"
        )


def check_examples(program: Program, data: Dataset) -> None:
    """Raise DataError where the data are not what the evaluation program takes."""
    shapes = [v.type.shape[1:] for v in program.inputs]
    if shapes != [data.x_test.shape[1:]]:
        taken = ", ".join("x".join(map(str, shape)) for shape in shapes)
        shape = "x".join(map(str, data.x_test.shape[1:]))
        raise DataError(f"{data.name} has examples of {shape}; the network takes {taken}")
    if program.inputs[0].type.format.is_index:
        raise DataError(f"{data.name} has examples of float32; the network takes integers")


def agreements(path: Path, step: Step, data: Dataset, threads: int | None) -> list[Agreement]:
    """One for each level of optimization."""
    batch = step.source.evaluation.inputs[0].type.shape[0]
    runs = {word: session(path, level, threads) for word, level in LEVELS.items()}
    pairs: dict[str, list[tuple[list[Array], list[Array]]]] = {word: [] for word in runs}
    for x, wanted in _predicted(step, data, batch):
        for word, run in runs.items():
            made = [y[: len(wanted[0])] for y in run(x)]
            pairs[word].append((wanted, made))
    classes = data.has_labels
    return [_compared(word, found, classes=classes) for word, found in pairs.items()]


def _predicted(step: Step, data: Dataset, batch: int) -> Iterator[tuple[Floats, list[Array]]]:
    """Whole batches, and what is predicted of the rows that are no repetition."""
    import torch

    for x, _ in eval_batches(data, batch):
        full = np.resize(x, (batch, *x.shape[1:]))
        made = step.predict(torch.from_numpy(full))
        outputs = made if isinstance(made, tuple) else (made,)
        yield full, [y.numpy()[: len(x)] for y in outputs]


def session(path: Path, level: str, threads: int | None) -> FileRun:
    """What runs the file at a level of optimization, on its first input."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            "the package onnxruntime is not installed; pip install 'quatrain[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = ERRORS_ONLY
    try:
        made: Any = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class of their own
        reason = " ".join(str(error).split())
        raise ExportError(f"onnxruntime does not load {path} at {level}: {reason}") from error
    name = made.get_inputs()[0].name
    return lambda x: list(made.run(None, {name: x}))


def _compared(
    word: str, pairs: Sequence[tuple[list[Array], list[Array]]], *, classes: bool
) -> Agreement:
    equal = samples = same = places = 0
    largest = 0.0
    for wanted, made in pairs:
        alike = np.ones(len(wanted[0]), bool)
        for a, b in zip(wanted, made, strict=True):
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            largest = max(largest, float(gap.max(initial=0.0)))
            alike &= (gap == 0).reshape(len(a), -1).all(1)
        equal, samples = equal + int(alike.sum()), samples + len(alike)
        if classes and wanted[0].ndim > 1:
            hits = wanted[0].argmax(1) == made[0].argmax(1)
            same, places = same + int(hits.sum()), places + hits.size
    return Agreement(word, samples, equal, largest, same, places)
