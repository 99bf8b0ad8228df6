"""Codes of weights that go to and fro between watched steps.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training" (ICML 2022), section 2: a
weight oscillates where its integer changes, and the change before went the other way. They look at
every step, a watcher at those that it watches.
"""

from __future__ import annotations

import numpy as np


class Oscillation:
    """Of one weight: its codes when last seen, and which way each of them last went."""

    def __init__(self) -> None:
        self._codes: np.ndarray | None = None
        self._way: np.ndarray | None = None

    def see(self, codes: np.ndarray) -> tuple[float, float] | None:
        """The shares of codes that changed, and that went back; None at the first look."""
        before, self._codes = self._codes, codes.copy()
        if before is None:
            self._way = np.zeros(codes.shape, np.int8)
            return None
        assert self._way is not None
        way = np.sign(codes - before).astype(np.int8)
        changed, back = way != 0, way * self._way < 0
        self._way = np.where(changed, way, self._way)
        return float(changed.mean()), float(back.mean())
