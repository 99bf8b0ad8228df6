"""Streams: queues of work of a device; and events, which are places in them."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_float

import numpy as np

from .api import EVENT_DISABLE_TIMING, STREAM_NON_BLOCKING
from .driver import Device
from .module import Function, LaunchParams

MOST_HELD = 256  # arrays that wait for a copy


class Stream:
    """A queue. All but ``synchronize`` returns before the work is done.

    An array of the host that is copied must stay as it is until then; it is held until
    ``synchronize``, so that it need not be kept. With ``handle`` the queue is another library's,
    such as torch's current one.
    """

    def __init__(self, device: Device, handle: int | None = None) -> None:
        self.device = device
        self._held: dict[int, np.ndarray] = {}
        if handle is not None:
            self.handle = handle
            return
        self.handle = device.create("cuStreamCreate", STREAM_NON_BLOCKING)
        device.owned(self, "cuStreamDestroy_v2", self.handle)

    def upload(self, target: int, source: np.ndarray) -> None:
        """Copy an array to the device's address ``target``."""
        place = self._place(source)
        self.device.call("cuMemcpyHtoDAsync_v2", target, place, source.nbytes, self.handle)

    def download(self, target: np.ndarray, source: int) -> None:
        """Copy from the device's address ``source`` to fill an array."""
        assert target.flags.writeable, "a target that may not be written"
        place = self._place(target)
        self.device.call("cuMemcpyDtoHAsync_v2", place, source, target.nbytes, self.handle)

    def _place(self, array: np.ndarray) -> int:
        assert array.flags.c_contiguous, "what is copied lies in one piece"
        if len(self._held) >= MOST_HELD:
            self.synchronize()
        place = array.ctypes.data
        self._held[place] = array
        return place

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes of the device."""
        self.device.call("cuMemcpyDtoDAsync_v2", target, source, size, self.handle)

    def fill(self, target: int, value: int, size: int) -> None:
        """Set bytes of the device."""
        self.device.call("cuMemsetD8Async", target, value, size, self.handle)

    def launch(
        self,
        function: Function,
        grid: Sequence[int],
        block: Sequence[int],
        addresses: Sequence[int],
        shared: int = 0,
    ) -> None:
        """Run a kernel on addresses, with ``shared`` bytes of dynamic shared memory."""
        launch = LaunchParams.of(grid, block, addresses)
        at = (*launch.grid, *launch.block, shared, self.handle)
        self.device.call("cuLaunchKernel", function.handle, *at, launch.pointers, None)

    def wait(self, event: Event) -> None:
        """Let what follows wait for what was ahead of ``event`` when it was recorded last."""
        self.device.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until the queue is empty; TargetError where work of it failed."""
        self.device.call("cuStreamSynchronize", self.handle)
        self._held.clear()


class Event:
    """A place in a stream, with its time unless ``timed`` is False."""

    def __init__(self, device: Device, *, timed: bool = True) -> None:
        self.device = device
        self.handle = device.create("cuEventCreate", 0 if timed else EVENT_DISABLE_TIMING)
        device.owned(self, "cuEventDestroy_v2", self.handle)

    def record(self, stream: Stream) -> None:
        """Be the place behind all that the stream has now."""
        self.device.call("cuEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until the stream is at that place."""
        self.device.call("cuEventSynchronize", self.handle)

    def milliseconds_until(self, later: Event) -> float:
        """From this place to ``later``; both must be reached."""
        elapsed = c_float()
        self.device.call("cuEventElapsedTime", byref(elapsed), self.handle, later.handle)
        return elapsed.value
