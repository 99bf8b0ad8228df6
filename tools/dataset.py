"""What a data set is: arrays for training and testing, their normalization and augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler.errors import DataError

Array = NDArray[Any]
Tokens = NDArray[np.int64]
WORDS, CHARACTERS = "words", "characters"


@dataclass(frozen=True)
class Augmentation:
    """Random crops of the image padded with ``pad`` zeros on each side, and mirror images."""

    pad: int = 4
    mirror: bool = True


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs ``[N, ...]`` and targets ``[N]`` for training and testing.

    ``x_*`` is float32, or uint8 0..255 that stands for 0..1 (batches are float32 in both cases), or
    int64 tokens (which stay as they are); ``y_*`` is int64 labels, or float32 targets. ``mean`` and
    ``std`` are per channel, in units of the 0..1 scale; a batch holds ``(x - mean) / std``.

    Rows are shuffled unless they are ``in_order``; in a batch they lie along ``axis``. ``tokens``
    says what an example is made of where that is text.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augmentation: Augmentation | None = None
    in_order: bool = False
    axis: int = 0
    tokens: str | None = None

    @property
    def has_labels(self) -> bool:
        """Whether the targets are class labels, so that an accuracy can be told."""
        return self.y_train.dtype == np.int64

    @property
    def classes(self) -> int:
        """Number of classes: the largest label plus one (0 where the targets are not labels)."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1 if self.has_labels else 0


@dataclass(frozen=True, eq=False)
class Text:
    """Text for language models as numbers of tokens, which are ``words`` or ``characters``.

    Token ``i`` is ``vocabulary[i]``. Which examples it gives is up to the network: ``windows``.
    ``time_first`` says how the network lays out a batch, where the user said it.
    """

    name: str
    tokens: str
    vocabulary: tuple[str, ...]
    train: Tokens
    test: Tokens
    time_first: bool | None = None


def windows(text: Text, length: int, batch: int, *, time_first: bool = False) -> Dataset:
    """Examples of ``length`` tokens, each with those one further on as its targets.

    The training part is cut into ``batch`` streams, and row r of a batch goes on where row r of
    the batch before it ended. The test part is cut into windows one behind the other. What fills
    no window or no batch at the end of either is left out.
    """
    stream = (len(text.train) - 1) // batch
    count, tested = stream // length, (len(text.test) - 1) // length
    if not count or not tested:
        raise DataError(
            f"{text.name} has {len(text.train)} {text.tokens} for training and {len(text.test)} "
            f"for testing; the network takes {batch} windows of {length} at a time, so at least "
            f"{batch * length + 1} and {length + 1}"
        )
    starts = np.arange(count)[:, None] * length + np.arange(batch) * stream
    train = starts.reshape(-1, 1) + np.arange(length)
    test = np.arange(tested)[:, None] * length + np.arange(length)
    parts = text.train[train], text.train[train + 1], text.test[test], text.test[test + 1]
    return Dataset(text.name, *parts, in_order=True, axis=int(time_first), tokens=text.tokens)


def held_out_rows(
    y: Array, share: float, seed: int, name: str, names: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Which rows are for testing: ``share`` of each class, drawn by ``seed``, at least one.

    Raises DataError for a class of one row, which cannot be in both parts; ``names`` are those of
    the classes.
    """
    classes = np.unique(y) if y.dtype == np.int64 else np.zeros(1)
    held_out = np.zeros(len(y), bool)
    for number, label in enumerate(classes):
        rows = np.flatnonzero(y == label) if y.dtype == np.int64 else np.arange(len(y))
        if len(rows) < 2:
            said = names[int(label)] if names else int(label)
            where = f"class {said} of {name}" if y.dtype == np.int64 else name
            raise DataError(f"{where} has one example; it takes two, one of them for testing")
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        order = np.random.default_rng((seed, number)).permutation(len(rows))
        held_out[rows[order[:count]]] = True
    return held_out
