"""Batches of a data set: seeded order, augmentation, normalization; accuracy on the test part.

Everything is a function of (seed, epoch, number of the batch), never of what was drawn before, so
that a run resumed in the middle of an epoch sees the same bytes as one that was not stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from ..compiler.errors import DataError
from .dataset import Array, Augmentation, Dataset

Floats = npt.NDArray[np.float32]
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
) -> Iterator[tuple[Floats, Array]]:
    """Batches ``start``, ``start + 1``, ... of one shuffled epoch, without a last partial batch.

    Yields ``x`` float32 ``[batch, ...]``, normalized and augmented as the data set says, and ``y``.
    """
    count = batches_per_epoch(data, batch)
    order = np.random.default_rng((_ORDER, seed, epoch)).permutation(len(data.x_train))
    for number in range(start, count):
        rows = order[number * batch : (number + 1) * batch]
        x = data.x_train[rows]
        if data.augmentation is not None:
            x = augment(
                x, data.augmentation, np.random.default_rng((_AUGMENT, seed, epoch, number))
            )
        yield normalize(x, data), data.y_train[rows]


def eval_batches(data: Dataset, batch: int) -> Iterator[tuple[Floats, Array]]:
    """The test part in its own order, normalized; the last batch may be smaller."""
    for start in range(0, len(data.x_test), batch):
        rows = slice(start, start + batch)
        yield normalize(data.x_test[rows], data), data.y_test[rows]


def normalize(x: Array, data: Dataset) -> Floats:
    """``x`` on the 0..1 scale (uint8 divided by 255) as ``(x - mean) / std``, float32."""
    axes = (-1,) + (1,) * (x.ndim - 2)
    unit = 255.0 if x.dtype == np.uint8 else 1.0
    factor = (1 / (unit * np.array(data.std))).astype(np.float32).reshape(axes)
    offset = (-np.array(data.mean) / np.array(data.std)).astype(np.float32).reshape(axes)
    if x.dtype == np.float32 and np.all(factor == 1) and not np.any(offset):
        return x.astype(np.float32, copy=False)
    scaled: Floats = np.multiply(x, factor, dtype=np.float32)
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


def accuracy(predict: Callable[[Floats], Array], data: Dataset, batch: int) -> float:
    """Share of the test part (0..1) that ``predict`` (to ``[batch, classes]``) gets right.

    Every call gets exactly ``batch`` rows, so that one compiled shape serves: the last batch is
    filled up with its own rows again, which leaves any statistic over the batch's extremes alone.
    """
    if not data.has_labels:
        raise DataError(f"{data.name} has no class labels, so there is no accuracy to measure")
    right = 0
    for x, y in eval_batches(data, batch):
        full = np.resize(x, (batch, *x.shape[1:])) if len(x) < batch else x
        right += int((predict(full)[: len(y)].argmax(1) == y).sum())
    return right / len(data.x_test)
