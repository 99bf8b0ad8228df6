"""Memory planning: one arena for a step, each buffer at a fixed offset while it lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of ``bytes`` that must keep its contents from kernel ``first`` to ``last``."""

    bytes: int
    first: int
    last: int


def aligned(size: int) -> int:
    """``size`` rounded up to whole cache lines."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(buffers: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets of all buffers, largest first at the lowest place that is free, and the arena's size.

    Two buffers overlap in memory only if their lifetimes do not.
    """
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for i in sorted(range(len(buffers)), key=lambda i: (-buffers[i].bytes, buffers[i].first)):
        b = buffers[i]
        alive = sorted(
            (offsets[j], offsets[j] + aligned(buffers[j].bytes))
            for j in placed
            if buffers[j].first <= b.last and b.first <= buffers[j].last
        )
        offset = 0
        for start, end in alive:
            if offset + aligned(b.bytes) <= start:
                break
            offset = max(offset, end)
        offsets[i] = offset
        placed.append(i)
    size = max((o + aligned(b.bytes) for o, b in zip(offsets, buffers, strict=True)), default=0)
    return offsets, size
