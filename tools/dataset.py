"""What a data set is: arrays for training and testing, their normalization and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Augmentation:
    """Random crops of the image padded with ``pad`` zeros on each side, and mirror images."""

    pad: int = 4
    mirror: bool = True


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs ``[N, ...]`` and targets ``[N]`` for training and testing.

    ``x_*`` is float32, or uint8 0..255 that stands for 0..1 (batches are float32 in both cases);
    ``y_*`` is int64 labels, or float32 targets. ``mean`` and ``std`` are per channel, in units of
    the 0..1 scale; a batch holds ``(x - mean) / std``.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augmentation: Augmentation | None = None

    @property
    def has_labels(self) -> bool:
        """Whether the targets are class labels, so that an accuracy can be told."""
        return self.y_train.dtype == np.int64

    @property
    def classes(self) -> int:
        """Number of classes: the largest label plus one (0 where the targets are not labels)."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1 if self.has_labels else 0
