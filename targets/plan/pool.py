"""What the programs of one step share: memory between kernels, and the blocks of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .state import StateLayout, Unapplied, aligned_bytes

Block = Any
"""The state in a target's memory."""


class TargetMemory(Protocol):
    """The memory of a step on its target; its programs run one at a time."""

    def block(self, size: int) -> Block:
        """A new block of so many zero bytes."""

    def read(self, block: Block, place: int, size: int) -> np.ndarray:
        """A copy of ``size`` bytes from ``place`` on."""

    def write(self, block: Block, place: int, data: np.ndarray) -> None:
        """Put bytes at ``place``."""

    def commit(self, kept: Unapplied, old: Block, new: Block) -> tuple[Block, Block]:
        """The state and the block for the next one, after a step from ``old`` to ``new``."""

    def lend(self, size: int) -> Block:
        """An arena of at least ``size`` bytes, which nothing else uses until it comes back."""

    def take_back(self, arena: Block) -> None:
        """An arena that was lent."""


class HostMemory:
    """See ``TargetMemory``; the arena is as large as the largest that was asked for."""

    def __init__(self) -> None:
        self._arena, self._idle = aligned_bytes(0), list[np.ndarray]()

    @property
    def bytes(self) -> int:
        """Size of the arena."""
        return len(self._arena)

    def arena(self, size: int) -> np.ndarray:
        """The first ``size`` bytes; what they hold outlives no run."""
        if size > len(self._arena):
            self._arena = aligned_bytes(size)
        return self._arena[:size]

    def lend(self, size: int) -> np.ndarray:
        """See ``TargetMemory``."""
        fits = [i for i, arena in enumerate(self._idle) if len(arena) >= size]
        return self._idle.pop(fits[0]) if fits else aligned_bytes(size)

    def take_back(self, arena: np.ndarray) -> None:
        """See ``TargetMemory``; of two that are idle the larger one stays."""
        self._idle = [max((*self._idle, arena), key=len)]

    def block(self, size: int) -> np.ndarray:
        """See ``TargetMemory``."""
        return aligned_bytes(size)

    def read(self, block: Block, place: int, size: int) -> np.ndarray:
        """See ``TargetMemory``."""
        made: np.ndarray = block[place : place + size].copy()
        return made

    def write(self, block: Block, place: int, data: np.ndarray) -> None:
        """See ``TargetMemory``."""
        block[place : place + data.size] = data

    def commit(self, kept: Unapplied, old: Block, new: Block) -> tuple[Block, Block]:
        """See ``TargetMemory``."""
        layout, count = kept.layout, kept.count
        if not count or layout.view(old, count) == layout.view(new, count):
            return new, old
        for name in (count, *kept.reacting):
            held, made = (layout.view(block, name) for block in (old, new))
            np.copyto(held, made, where=(held != 0) | (name == count))
        return old, new


def read_all(memory: TargetMemory, layout: StateLayout, block: Block) -> Mapping[str, np.ndarray]:
    """Copies of all values of a block by name."""
    return layout.views(memory.read(block, 0, layout.bytes))
