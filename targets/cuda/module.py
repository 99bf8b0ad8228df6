"""Modules: machine code on a device, and the kernels in it."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, byref, c_int, c_uint64, c_void_p, cast
from dataclasses import dataclass

from ...compiler.errors import TargetError
from .api import FOREIGN_IMAGE, FunctionAttribute, Status
from .driver import Device


class Module:
    """The kernels of an ``image``, a cubin, on a device."""

    def __init__(self, device: Device, image: bytes) -> None:
        self.device = device
        handle = c_void_p()
        status = device.status("cuModuleLoadData", byref(handle), image)
        if status in FOREIGN_IMAGE:
            raise TargetError(
                f"these kernels do not run on {device.info.called}, whose architecture is "
                f"{device.info.arch}: compile them for it "
                f"({device.driver.error('cuModuleLoadData', status)})"
            )
        if status:
            raise device.driver.error("cuModuleLoadData", status)
        self.handle = handle.value
        device.owned(self, "cuModuleUnload", self.handle, idle=True)

    def function(self, name: str) -> Function:
        """The kernel of a name; TargetError where there is none."""
        handle = c_void_p()
        status = self.device.status(
            "cuModuleGetFunction", byref(handle), self.handle, name.encode()
        )
        if status == Status.NOT_FOUND:
            raise TargetError(f"the kernels of this module have none that is called {name}")
        if status or handle.value is None:
            raise self.device.driver.error("cuModuleGetFunction", status)
        return Function(self, name, handle.value)


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A kernel; it holds its module."""

    module: Module
    name: str
    handle: int

    def allow_shared(self, size: int) -> None:
        """Let launches have up to ``size`` bytes of dynamic shared memory: more than 48 KiB, less
        what is static, must be asked for."""
        which = FunctionAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
        self.module.device.call("cuFuncSetAttribute", self.handle, which, size)

    @property
    def registers(self) -> int:
        """Of a thread."""
        return self._attribute(FunctionAttribute.NUM_REGS)

    @property
    def local_bytes(self) -> int:
        """Of a thread, in memory: arrays, and registers that are spilled."""
        return self._attribute(FunctionAttribute.LOCAL_SIZE_BYTES)

    @property
    def static_shared(self) -> int:
        """Bytes of a block."""
        return self._attribute(FunctionAttribute.SHARED_SIZE_BYTES)

    @property
    def most_threads(self) -> int:
        """Of a block."""
        return self._attribute(FunctionAttribute.MAX_THREADS_PER_BLOCK)

    def _attribute(self, which: FunctionAttribute) -> int:
        value = c_int()
        self.module.device.call("cuFuncGetAttribute", byref(value), which, self.handle)
        return value.value


@dataclass(frozen=True, eq=False, slots=True)
class LaunchParams:
    """Grid, block, and arguments as the driver reads them: a pointer to each value."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    values: object
    pointers: object

    @staticmethod
    def of(grid: Sequence[int], block: Sequence[int], addresses: Sequence[int]) -> LaunchParams:
        """One with addresses for arguments."""
        values = (c_uint64 * len(addresses))(*addresses)
        first = cast(values, c_void_p).value or 0
        places = (c_void_p * len(addresses))(*(first + 8 * i for i in range(len(addresses))))
        return LaunchParams(_three(grid), _three(block), values, cast(places, POINTER(c_void_p)))


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1, 1)[:3]
    assert len(sizes) <= 3, "a grid has up to three directions"
    return x, y, z
