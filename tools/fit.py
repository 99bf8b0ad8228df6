"""Whether data fit a network: shapes, numbers, classes, vocabulary; text becomes its windows.

The network's compiled shapes decide, and what does not fit is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..compiler.errors import DataError
from ..compiler.ir import Program, Value
from ..compiler.ir.ops import Trait, has
from ..compiler.ir.samples import apart_along
from ..compiler.types import Shape
from ..runtime.taken import Labels, Taken, find_checks
from .batches import class_axis
from .dataset import Array, Dataset, Text, windows


@dataclass(frozen=True, slots=True)
class Takes:
    """What a step takes, and the shapes of what ``predict`` gives.

    ``time_first``: tokens are [time, batch], [batch, time], or None where that does not show.
    """

    x: Value
    y: Value
    checks: tuple[Taken, ...]
    scores: tuple[Shape, ...]
    time_first: bool | None

    @property
    def classes(self) -> int | None:
        """How many classes the loss has."""
        counts = [c.classes for c in self.checks if isinstance(c, Labels) and c.value is self.y]
        return min(counts, default=None)

    @property
    def rows(self) -> int | None:
        """How many tokens the network's table has."""
        counts = [c.classes for c in self.checks if isinstance(c, Labels) and c.value is self.x]
        return min(counts, default=None)


def takes(train: Program, evaluation: Program, hyper: Collection[str]) -> Takes:
    """What the step of two captured programs takes."""
    x, y = batch_values(train, hyper)
    apart = [apart_along(evaluation, axis) for axis in (0, 1)]
    first = None if apart[0] == apart[1] else apart[1]
    shapes = tuple(v.type.shape for v in evaluation.outputs)
    return Takes(x, y, find_checks(train), shapes, first)


def takes_built(
    step: Program, checks: Sequence[Taken], predict: Program, by_rows: bool, hyper: Collection[str]
) -> Takes:
    """What a built step takes, of which ``by_rows`` says whether each row is a sample's alone."""
    x, y = batch_values(step, hyper)
    shapes = tuple(v.type.shape for v in predict.outputs)
    return Takes(x, y, tuple(checks), shapes, False if by_rows else None)


def batch_values(program: Program, hyper: Collection[str]) -> tuple[Value, Value]:
    """The two inputs of a program that takes a batch ``(x, y)``; DataError for any other.

    ``hyper`` names its other inputs, the hyper-parameters.
    """
    batch = [v for v in program.inputs if v.name not in hyper]
    if len(batch) != 2:
        raise DataError(
            f"the network takes {len(batch)} tensors a step, a data set has two (x and y); "
            "train it with step(...) from Python"
        )
    return batch[0], batch[1]


def is_cross_entropy(program: Program) -> bool:
    """Whether the loss of a step is the mean negative log of what it gives its labels, no more."""
    made = {r: op for _, op in program.ops() for r in op.results}
    op = made.get(program.outputs[0])
    while op is not None and (has(op, Trait.WINDOW) or op.kind == "cast"):
        op = made.get(op.inputs[0])
    return op is not None and op.kind == "nll_loss" and op.word_attr("reduction") == "mean"


def fit(data: Dataset | Text, step: Takes) -> tuple[Dataset, int]:
    """The data as the network takes them, and its batch size; DataError where they do not fit."""
    if isinstance(data, Text):
        return _text(data, step)
    x, y = step.x.type, step.y.type
    if x.format.is_index:
        raise DataError(f"the network takes integers, as of text; {data.name} has {_kind(data)}")
    fitted = replace(
        data,
        x_train=_reshaped(data.x_train, x.shape[1:], data.name, "examples"),
        x_test=_reshaped(data.x_test, x.shape[1:], data.name, "examples"),
    )
    if data.y_train.shape[1:] != y.shape[1:]:
        raise _misfit(data.name, "targets", data.y_train.shape[1:], y.shape[1:])
    if y.format.is_index != data.has_labels:
        kind = "labels" if y.format.is_index else "float targets"
        raise DataError(f"the network's loss takes {kind}; {data.name} has {data.y_train.dtype}")
    if data.has_labels:
        _check_scores(step)
    for check in step.checks:
        if isinstance(check, Labels) and check.value is step.y:
            _check_labels(data, check)
    return fitted, x.shape[0]


def _check_scores(step: Takes) -> None:
    """What the accuracy is measured by."""
    labels = step.y.type.shape
    if len(step.scores) != 1 or class_axis(step.scores[0], labels) is None:
        shapes = ", ".join(map(_shape, step.scores))
        raise DataError(
            f"predict of the network gives {shapes} for labels {_shape(labels)}, which are no "
            "scores of the classes for each label; train it with step(...) from Python"
        )


def _check_labels(data: Dataset, check: Labels) -> None:
    for labels in (data.y_train, data.y_test):
        top = int(labels.max(where=labels != check.ignore, initial=0))
        if top >= check.classes:
            raise DataError(
                f"{data.name} has the label {top}; the network's labels are "
                f"0 .. {check.classes - 1}"
            )


def _text(data: Text, step: Takes) -> tuple[Dataset, int]:
    x, y = step.x.type, step.y.type
    if not x.format.is_index or not y.format.is_index or len(x.shape) != 2 or y.shape != x.shape:
        raise DataError(
            f"{data.name} is text, of which x and y are integers of one shape [batch, time] or "
            f"[time, batch]; the network takes {x} and {y}"
        )
    size = len(data.vocabulary)
    for count, what in ((step.rows, "table"), (step.classes, "loss")):
        if count is not None and size > count:
            raise DataError(
                f"{data.name} has {size} different {data.tokens}; the network's {what} has {count}"
            )
    _check_scores(step)
    first = step.time_first if data.time_first is None else data.time_first
    if first is None:
        raise DataError(
            f"the network's batch {_shape(x.shape)} may be [batch, time] or [time, batch]; say "
            "which with --data NAME:time_first=false or true"
        )
    length, batch = x.shape if first else x.shape[::-1]
    return windows(data, length, batch, time_first=first), batch


def _reshaped(x: Array, wanted: Shape, name: str, what: str) -> Array:
    """Rows of the shape that is wanted; dimensions of size 1 are no difference."""
    found = x.shape[1:]
    if [n for n in found if n > 1] != [n for n in wanted if n > 1]:
        raise _misfit(name, what, found, wanted)
    return x.reshape(len(x), *wanted)


def _misfit(name: str, what: str, found: Shape, wanted: Shape) -> DataError:
    return DataError(f"{name} has {what} of {_shape(found)}, the network takes {_shape(wanted)}")


def _kind(data: Dataset) -> str:
    return "images" if data.x_train.dtype == np.uint8 else "floats"


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "single numbers"
