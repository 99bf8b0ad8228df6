"""Mean and standard deviation of the channels of images, on the 0..1 scale."""

from __future__ import annotations

import numpy as np

from .dataset import Array

ROWS = 256  # counted at once, as counting takes eight bytes for one
PerChannel = tuple[float, ...]


def mean_and_std(images: Array) -> tuple[PerChannel, PerChannel]:
    """Of uint8 ``[N, C, H, W]``; a channel that is the same everywhere has deviation 1."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        parts = (images[i : i + ROWS, channel] for i in range(0, len(images), ROWS))
        counts = [np.bincount(part.reshape(-1), minlength=256) for part in parts]
        count = np.sum(counts, axis=0)
        share = count / count.sum()
        mean = float((share * values).sum())
        spread = float((share * (values - mean) ** 2).sum()) ** 0.5
        means.append(mean)
        deviations.append(spread or 1.0)
    return tuple(means), tuple(deviations)
