"""Where the state of a program lies: one block of bytes, each value at a fixed, aligned offset.

The step reads one block and writes another; swapping the two commits it, so a step that fails
halfway leaves the state of before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...compiler.ir import Program
from ...compiler.types import TensorType
from .layout import Layout, Order
from .memory import ALIGNMENT, aligned


@dataclass(frozen=True, slots=True)
class StateLayout:
    """Offsets, types and total size in bytes of a program's state."""

    offsets: Mapping[str, int]
    types: Mapping[str, TensorType]
    bytes: int

    def views(self, block: np.ndarray) -> dict[str, np.ndarray]:
        """Typed arrays over ``block`` (uint8, ``bytes`` long), one per state value."""
        return {name: self.view(block, name) for name in self.offsets}

    def view(self, block: np.ndarray, name: str) -> np.ndarray:
        """The typed array of one state value over ``block``."""
        layout = Layout(self.types[name], Order.ROWS)
        start = self.offsets[name]
        raw = block[start : start + layout.bytes]
        return raw.view(layout.dtype).reshape(layout.stored_shape)


@dataclass(frozen=True, slots=True)
class Unapplied:
    """What a step that is not applied still writes.

    That is so where it raises ``count`` (none: every step is applied). The count stays then, and
    what it made of scales that react to overflows, where they had been set (not 0).
    """

    layout: StateLayout
    count: str = ""
    reacting: tuple[str, ...] = ()


def state_layout(program: Program) -> StateLayout:
    """The layout of the state that ``program`` declares, in order of declaration."""
    offsets: dict[str, int] = {}
    end = 0
    for v in program.state:
        offsets[v.name] = end
        end += aligned(Layout(v.type, Order.ROWS).bytes)
    return StateLayout(offsets, {v.name: v.type for v in program.state}, max(end, ALIGNMENT))


def aligned_bytes(size: int) -> np.ndarray:
    """``size`` zero bytes that start at a multiple of a cache line."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]
