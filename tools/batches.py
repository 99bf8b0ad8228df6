"""Batches of a data set: seeded order, augmentation, normalization; accuracy on the test part.

Everything is a function of (seed, epoch, number of the batch), never of what was drawn before, so
that a run resumed in the middle of an epoch sees the same bytes as one that was not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..compiler.errors import DataError
from .dataset import Array, Augmentation, Dataset

# First word of the seeds, so that the order of an epoch and its augmentations never share a stream.
_ORDER, _AUGMENT = 0, 1


def batches_per_epoch(data: Dataset, batch: int) -> int:
    """Whole batches in one pass over the training part; raises ``DataError`` if there is none."""
    if not 1 <= batch <= len(data.x_train):
        raise DataError(
            f"a batch of {batch} cannot be taken from the {len(data.x_train)} training rows of "
            f"{data.name}; use 1..{len(data.x_train)}"
        )
    return len(data.x_train) // batch


def train_batches(
    data: Dataset, batch: int, *, seed: int = 0, epoch: int = 0, start: int = 0
) -> Iterator[tuple[Array, Array]]:
    """Batches ``start``, ``start + 1``, ... of one shuffled epoch, without a last partial batch.

    Yields ``x`` float32 ``[batch, ...]``, normalized and augmented as the data set says, and ``y``;
    of tokens both are int64, with the rows along the data set's axis.
    """
    count = batches_per_epoch(data, batch)
    order = np.arange(len(data.x_train))
    if not data.in_order:
        order = np.random.default_rng((_ORDER, seed, epoch)).permutation(order)
    for number in range(start, count):
        rows = order[number * batch : (number + 1) * batch]
        x = data.x_train[rows]
        if data.augmentation is not None:
            x = augment(
                x, data.augmentation, np.random.default_rng((_AUGMENT, seed, epoch, number))
            )
        yield laid_out(normalize(x, data), data), laid_out(data.y_train[rows], data)


def eval_batches(data: Dataset, batch: int) -> Iterator[tuple[Array, Array]]:
    """Rows of the test part in their own order, normalized; the last batch may be smaller."""
    for start in range(0, len(data.x_test), batch):
        rows = slice(start, start + batch)
        yield normalize(data.x_test[rows], data), data.y_test[rows]


def laid_out(rows: Array, data: Dataset) -> Array:
    """Rows as the network takes them: along the data set's axis."""
    return np.moveaxis(rows, 0, data.axis) if data.axis else rows


def normalize(x: Array, data: Dataset) -> Array:
    """``x`` on the 0..1 scale (uint8 divided by 255) as ``(x - mean) / std``, float32.

    Tokens stay as they are.
    """
    if x.dtype == np.int64:
        return x
    axes = (-1,) + (1,) * (x.ndim - 2)
    unit = 255.0 if x.dtype == np.uint8 else 1.0
    factor = (1 / (unit * np.array(data.std))).astype(np.float32).reshape(axes)
    offset = (-np.array(data.mean) / np.array(data.std)).astype(np.float32).reshape(axes)
    if x.dtype == np.float32 and np.all(factor == 1) and not np.any(offset):
        return x.astype(np.float32, copy=False)
    scaled: Array = np.multiply(x, factor, dtype=np.float32)
    scaled += offset
    return scaled


def augment(x: Array, how: Augmentation, generator: np.random.Generator) -> Array:
    """Images ``[N, C, H, W]``: each moved by up to ``how.pad`` pixels, half of them mirrored.

    The border that moves in is 0 before normalization, as in the usual CIFAR recipe.
    """
    count, _, height, width = x.shape
    pad = ((0, 0), (0, 0), (how.pad, how.pad), (how.pad, how.pad))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pad), (height, width), axis=(2, 3))
    top, left = generator.integers(0, 2 * how.pad + 1, (2, count))
    moved: Array = windows[np.arange(count), :, top, left]
    if how.mirror:
        mirrored = generator.random(count) < 0.5
        moved[mirrored] = moved[mirrored][..., ::-1]
    return moved


@dataclass(frozen=True, slots=True)
class Measured:
    """What the test part says: accuracy (0..1), and the mean cross entropy of the scores in nats.

    Both are means over all labels.
    """

    accuracy: float
    loss: float


def accuracy(predict: Callable[[Array], Array], data: Dataset, batch: int) -> float:
    """Share of the test part (0..1) that ``predict`` (to ``[batch, classes]``) gets right."""
    return measure(predict, data, batch).accuracy


def measure(predict: Callable[[Array], Array], data: Dataset, batch: int) -> Measured:
    """The test part by ``predict``, from a batch to the scores of each class for each label.

    Every call gets exactly ``batch`` rows, so that one compiled shape serves: the last batch is
    filled up with its own rows again, which leaves any statistic over the batch's extremes alone.
    """
    if not data.has_labels:
        raise DataError(f"{data.name} has no class labels, so there is no accuracy to measure")
    right, nats = 0, 0.0
    for x, y in eval_batches(data, batch):
        full, labels = (
            np.resize(a, (batch, *a.shape[1:])) if len(a) < batch else a for a in (x, y)
        )
        given = laid_out(labels, data)
        scores = by_label(predict(laid_out(full, data)), given.shape)
        scores = np.moveaxis(scores, data.axis, 0)[: len(y)]
        right += int((scores.argmax(-1) == y).sum())
        nats += float(_cross_entropy(scores, y).sum())
    return Measured(right / data.y_test.size, nats / data.y_test.size)


def by_label(scores: Array, labels: tuple[int, ...]) -> Array:
    """Scores ``[*labels, classes]`` of what a network gives for labels of that shape.

    Classes are in dimension 1, as torch's cross entropy takes them, or the last one; labels may
    also be one behind another. Raises DataError for another shape.
    """
    place = class_axis(scores.shape, labels)
    if place is None:
        raise DataError(
            f"predict gives {list(scores.shape)} for labels {list(labels)}, which is no score of "
            "each class for each label"
        )
    return np.moveaxis(scores, place, -1).reshape(*labels, scores.shape[place])


def class_axis(scores: tuple[int, ...], labels: tuple[int, ...]) -> int | None:
    """The dimension of classes in what a network gives; None where there are no such scores."""
    if scores[:-1] in (labels, (math.prod(labels),)):
        return len(scores) - 1
    return 1 if scores[:1] + scores[2:] == labels else None


def _cross_entropy(scores: Array, y: Array) -> Array:
    """Of each label, in float64."""
    with np.errstate(invalid="ignore"):  # scores of a network that diverged
        wide = scores.astype(np.float64)
        wide -= wide.max(-1, keepdims=True)
        chosen = np.take_along_axis(wide, y[..., None], -1)[..., 0]
        nats: Array = np.log(np.exp(wide).sum(-1)) - chosen
    return nats
