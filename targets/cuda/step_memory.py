"""The memory of a step on a device."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..plan.kernel import KernelSpec
from ..plan.state import Unapplied
from .compiler import find_compiler
from .driver import Device
from .image import Images, Placed
from .loaded import DeviceImages
from .memory import DeviceMemory
from .settle import settle_of
from .stream import Event, Stream
from .watch import Watch


class StepMemory:
    """See ``TargetMemory``: blocks, the arena, and the stream of a step's programs."""

    def __init__(self, device: Device, arch: str, cache_dir: Path | None) -> None:
        self.device, self.arch, self.cache_dir = device, arch, cache_dir
        self.stream = Stream(device)
        self._handle: int | None = None
        # Kept, as a stream holds what it copies from until it is through.
        self._streams: dict[int | None, Stream] = {None: self.stream}
        # The checks of the run that the next commit is of.
        self.watched: Watch | None = None
        self.loaded = DeviceImages(device)
        self._arena, self._idle = DeviceMemory(device, 0), list[DeviceMemory]()
        self._images: dict[KernelSpec, Placed] = {}

    @property
    def place(self) -> str:
        """The device as torch calls it."""
        return f"cuda:{self.device.info.index}"

    def images(self, specs: Iterable[KernelSpec]) -> Images:
        """Kernels for the device; TargetError where some are new and nothing here makes them."""
        wanted = [spec for spec in dict.fromkeys(specs) if spec not in self._images]
        if wanted:
            # Here, as a step that is built runs without TVM.
            from .images import load_images

            compiler = find_compiler(self.device.driver.version // 1000)
            self._images |= load_images(wanted, self.arch, self.cache_dir, compiler)
        return self._images

    def follow(self, handle: int | None) -> None:
        """Go on in another library's stream, or, without a handle, in the own one.

        What is there waits for what was begun here.
        """
        if handle == self._handle:
            return
        before, self._handle = self.stream, handle
        if handle not in self._streams:
            self._streams[handle] = Stream(self.device, handle)
        self.stream = self._streams[handle]
        event = Event(self.device, timed=False)
        event.record(before)
        self.stream.wait(event)

    def arena(self, size: int) -> DeviceMemory:
        """At least so many bytes; what they hold outlives no run."""
        if size > self._arena.size:
            self._arena = DeviceMemory(self.device, size)
        return self._arena

    def lend(self, size: int) -> DeviceMemory:
        """See ``TargetMemory``."""
        fits = [i for i, arena in enumerate(self._idle) if arena.size >= size]
        return self._idle.pop(fits[0]) if fits else DeviceMemory(self.device, size)

    def take_back(self, arena: DeviceMemory) -> None:
        """See ``TargetMemory``; of two that are idle the larger one stays."""
        self._idle = [max((*self._idle, arena), key=lambda memory: memory.size)]

    def block(self, size: int) -> DeviceMemory:
        """See ``TargetMemory``."""
        made = DeviceMemory(self.device, size)
        self.stream.fill(made.address, 0, size)
        return made

    def read(self, block: DeviceMemory, place: int, size: int) -> np.ndarray:
        """See ``TargetMemory``; waits for what runs."""
        made = np.empty(size, np.uint8)
        self.stream.download(made, block.address + place)
        self.stream.synchronize()
        return made

    def write(self, block: DeviceMemory, place: int, data: np.ndarray) -> None:
        """See ``TargetMemory``."""
        self.stream.upload(block.address + place, np.array(data))

    def commit(
        self, kept: Unapplied, old: DeviceMemory, new: DeviceMemory
    ) -> tuple[DeviceMemory, DeviceMemory]:
        """See ``TargetMemory``; nobody waits, see ``settle``."""
        watched, self.watched = self.watched, None
        settle = settle_of(kept, len(watched.checks) if watched else 0)
        if settle is not None:
            addresses = [old.address, new.address, *([watched.now] if watched else [])]
            placed = self.images([settle])[settle]
            for function, grid, threads in self.loaded.launches(placed):
                self.stream.launch(function, (grid,), (threads,), addresses)
        return new, old
