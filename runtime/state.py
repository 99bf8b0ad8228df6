"""What a step carries: two equal blocks of bytes, one read and one written, swapped to commit."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import cast

import numpy as np

from ..compiler.errors import InputError, closest, shown
from ..compiler.ir import STEP
from ..targets.plan.layout import Layout, Order
from ..targets.plan.pool import TargetMemory, read_all
from ..targets.plan.state import StateLayout, Unapplied

LOW = 0xFFFFFFFF


class State:
    """Parameters, buffers, optimizer state, clips, scales and counters of a training program."""

    def __init__(
        self, kept: Unapplied, initial: Mapping[str, np.ndarray], memory: TargetMemory
    ) -> None:
        """``initial`` has all state; InputError where not."""
        self.layout: StateLayout = kept.layout
        self._memory, self._kept = memory, kept
        self.old, self.new = (memory.block(self.layout.bytes) for _ in range(2))
        for name in self.layout.types:
            if name not in initial:
                raise InputError(f"the state lacks {name}")
        self.load(initial)

    def commit(self) -> None:
        """Make what the last run wrote the state, unless it counted itself as not to be applied.

        Then the state of before stays, but for what ``Unapplied`` says.
        """
        self.old, self.new = self._memory.commit(self._kept, self.old, self.new)

    @property
    def skipped(self) -> int:
        """Steps that were not applied."""
        return self._count(self._kept.count)

    @property
    def done(self) -> int:
        """Steps of the network's life, applied or not."""
        return self.skipped + self._count(STEP)

    def _count(self, name: str) -> int:
        """A counter by name; 0 where there is none."""
        if name not in self.layout.types:
            return 0
        layout = Layout(self.layout.types[name], Order.ROWS)
        raw = self._memory.read(self.old, self.layout.offsets[name], layout.bytes)
        return int(raw.view(layout.dtype)[0])

    def read(self) -> dict[str, np.ndarray]:
        """A copy of every value by name."""
        return dict(read_all(self._memory, self.layout, self.old))

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Set the named values; nothing is set where a name is unknown or a shape differs.

        Raises InputError.
        """
        for name, value in values.items():
            self._check(str(name), value)
        for name, value in values.items():
            dtype = Layout(self.layout.types[name], Order.ROWS).dtype
            stored = np.ascontiguousarray(value, dtype).reshape(-1)
            for block in (self.old, self.new):
                self._memory.write(block, self.layout.offsets[name], stored.view(np.uint8))

    def _check(self, name: str, value: np.ndarray) -> None:
        if name not in self.layout.types:
            raise InputError(f"the step carries no {name!r}; {closest(name, self.layout.types)}")
        want = Layout(self.layout.types[name], Order.ROWS)
        shape, dtype = want.stored_shape, np.asarray(value).dtype
        if np.shape(value) != shape:
            raise InputError(f"{name} has shape {np.shape(value)}, the step carries {shape}")
        if not np.can_cast(dtype, want.dtype, "same_kind"):
            raise InputError(f"{name} is {dtype}, the step carries {want.type.format}")


def check_seed(seed: object) -> int:
    """A seed as torch.manual_seed takes one; InputError for anything else."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or not -(1 << 63) <= cast(int, seed) < 1 << 64:
        raise InputError(f"seed is {shown(seed)}; give a whole number of -2^63 .. 2^64 - 1")
    return int(cast(int, seed))


def stored_seed(seed: int) -> np.ndarray:
    """The state that stochastic choices start from; all 64 bits of ``seed`` count.

    The generator's key has 32 bits: the high half, stirred as MurmurHash3 ends, is folded into the
    low one. A high half of 0 adds nothing.
    """
    low, high = seed & LOW, (seed >> 32) & LOW
    high = (high ^ (high >> 16)) * 0x85EBCA6B & LOW
    high = (high ^ (high >> 13)) * 0xC2B2AE35 & LOW
    return np.asarray(low ^ high ^ (high >> 16), np.int64)
