"""What a device found in batches: two words a check, of this run and since somebody looked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..plan.checks import InputCheck
from .check import WORD, CheckSpec, check_of
from .driver import Device
from .memory import DeviceMemory, pinned
from .stream import Stream


class Watch:
    """The answers of the checks of one program."""

    def __init__(
        self, device: Device, checks: Sequence[InputCheck], types: Sequence[tuple[str, int]]
    ) -> None:
        """``types`` are dtype and elements of the input of each check."""
        self.checks = tuple(checks)
        self.specs: tuple[CheckSpec, ...] = tuple(
            check_of(check, *type_) for check, type_ in zip(checks, types, strict=True)
        )
        self.bytes = WORD * len(self.checks)
        self._words = DeviceMemory(device, 2 * self.bytes)
        self._seen = pinned(device, self.bytes).view(np.uint32)
        self._seen[...] = 0
        self._fresh = True

    @property
    def now(self) -> int:
        """Address of the answers of a run."""
        return self._words.address

    @property
    def since(self) -> int:
        """Address of the answers since somebody looked."""
        return self._words.address + self.bytes

    def begin(self, stream: Stream) -> None:
        """No run has been yet."""
        if self._fresh:
            stream.fill(self.now, 0, 2 * self.bytes)
            self._fresh = False

    def tell(self, stream: Stream) -> None:
        """Bring the answers to the host, some time."""
        stream.download(self._seen.view(np.uint8), self.since)

    def look(self, stream: Stream, *, wait: bool) -> tuple[int, ...]:
        """Numbers of the checks that failed, which are forgotten then.

        Without ``wait`` as far as is known by now.
        """
        if self._fresh or not (wait or self._seen.any()):
            return ()
        self.tell(stream)
        stream.synchronize()
        found = tuple(int(i) for i in np.flatnonzero(self._seen))
        if found:
            stream.fill(self.since, 0, self.bytes)
            self._seen[...] = 0
        return found
