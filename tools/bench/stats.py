"""Medians and quartiles of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some numbers, and the quartiles below and above it."""

    median: float
    low: float
    high: float


def spread(numbers: Sequence[float]) -> Spread:
    """Median and quartiles; of a single number itself. ``numbers`` are not empty."""
    if len(numbers) < 2:
        return Spread(numbers[0], numbers[0], numbers[0])
    low, _, high = quantiles(numbers, n=4, method="inclusive")
    return Spread(median(numbers), low, high)


def ratio(base: Sequence[float], other: Sequence[float]) -> Spread:
    """How many times faster ``other`` is: seconds of the same rounds divided, then their spread.

    What slows a whole round down, such as another program, cancels.
    """
    return spread([a / b for a, b in zip(base, other, strict=True)])
