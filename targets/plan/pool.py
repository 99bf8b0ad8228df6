"""The memory between kernels: one block for all programs of a step, which run one at a time."""

from __future__ import annotations

import numpy as np

from .state import aligned_bytes


class Pool:
    """As large as the largest arena that was asked for; what it holds outlives no run."""

    def __init__(self) -> None:
        self._block = aligned_bytes(0)

    @property
    def bytes(self) -> int:
        """Size of the block."""
        return len(self._block)

    def arena(self, size: int) -> np.ndarray:
        """The first ``size`` bytes."""
        if size > len(self._block):
            self._block = aligned_bytes(size)
        return self._block[:size]
