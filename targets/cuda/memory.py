"""Memory of a device, and memory of the host that a device copies from and to by itself."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_uint64

import numpy as np
import numpy.typing as npt

from ...compiler.errors import TargetError
from .api import Status
from .driver import Device


class DeviceMemory:
    """Bytes at ``address``, aligned to 256; what they are is left to chance."""

    def __init__(self, device: Device, size: int) -> None:
        self.device, self.size = device, size
        address = c_uint64()
        status = device.status("cuMemAlloc_v2", byref(address), max(size, 1))
        if status == Status.OUT_OF_MEMORY:
            raise _no_room(device, size)
        if status:
            raise device.driver.error("cuMemAlloc_v2", status)
        self.address = address.value
        self._freed = device.owned(self, "cuMemFree_v2", self.address, idle=True)

    def free(self) -> None:
        """Give the memory back now, when the device has done its work."""
        self._freed()


def allocate(device: Device, sizes: Sequence[int]) -> tuple[DeviceMemory, ...]:
    """A piece of memory for each size, or none at all and TargetError."""
    made: list[DeviceMemory] = []
    try:
        for size in sizes:
            made.append(DeviceMemory(device, size))
    except TargetError:
        # The traceback holds them.
        for memory in made:
            memory.free()
        raise
    return tuple(made)


def _no_room(device: Device, size: int) -> TargetError:
    free, total = map(_amount, device.memory())
    return TargetError(
        f"{device.info.called} has no room for {_amount(size)}: {free} of its {total} are free "
        "(CUDA_ERROR_OUT_OF_MEMORY); take a smaller batch, or end what else uses it"
    )


def _amount(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def pinned(device: Device, size: int) -> npt.NDArray[np.uint8]:
    """Bytes of the host that stay where they are, so that copies run beside other work.

    They are freed with the last array that shows them.
    """
    status, address = _host_memory(device, max(size, 1))
    if status == Status.OUT_OF_MEMORY:
        raise TargetError(
            f"there is no room for {_amount(size)} of memory that the system may not move: less "
            "is left, or a limit is set"
        )
    if status:
        raise device.driver.error("cuMemAllocHost_v2", status)
    held = (ctypes.c_ubyte * size).from_address(address)
    device.owned(held, "cuMemFreeHost", address, idle=True)
    return np.ctypeslib.as_array(held)


def _host_memory(device: Device, size: int) -> tuple[int, int]:
    address = ctypes.c_void_p()
    status = device.status("cuMemAllocHost_v2", byref(address), size)
    return status, address.value or 0
