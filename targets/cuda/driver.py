"""NVIDIA's driver and its devices, through ``libcuda.so.1`` alone.

Every machine with a GPU has that library, and its functions stay what they are; CUDA's runtime
library, or a package that wraps it, would have to be of the right version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from weakref import finalize

from ...compiler.errors import TargetError
from .api import LOST, SIGNATURES, DeviceAttribute, Status

LIBRARY = "libcuda.so.1"
OLDEST = 12000  # 1000 times the major version and ten times the minor one


@cache
def load(path: str | None = None) -> Driver:
    """The driver, or the library of ``path``; TargetError where it is of no use here."""
    path = path or LIBRARY
    try:
        library = ctypes.CDLL(path)
    except OSError:
        raise TargetError(
            f"there is no {path} here: install NVIDIA's driver, or compile for target 'cpu', "
            "which runs on this machine"
        ) from None
    version = _version(library, path)
    return Driver(_functions(library), version)


def _version(library: ctypes.CDLL, path: str) -> int:
    """Asked first: a driver that is too old lacks some of the functions."""
    ask, version = getattr(library, "cuDriverGetVersion", None), c_int()
    if ask is None or ask(byref(version)):
        raise TargetError(
            f"{path} is not NVIDIA's driver, but something to link programs with, or another "
            "library: install the driver"
        )
    if version.value < OLDEST:
        raise TargetError(
            f"NVIDIA's driver is one for CUDA {_dotted(version.value)}, and the target needs one "
            f"for {_dotted(OLDEST)} or later: install a newer driver"
        )
    return version.value


def _functions(library: ctypes.CDLL) -> dict[str, Callable[..., int]]:
    found = {}
    for name, arguments in SIGNATURES.items():
        function = found[name] = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    return found


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """A device; sizes in bytes, clocks in kHz (0 where the driver does not tell them)."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    multiprocessors: int
    registers: int  # of a multiprocessor
    shared_per_block: int  # at most, where a kernel asks for more than 48 KiB
    l2_cache: int
    clock: int
    memory_clock: int
    bus_bits: int

    @property
    def called(self) -> str:
        """As a target is, and its name: several may have the same."""
        return f"cuda:{self.index} ({self.name})"

    @property
    def arch(self) -> str:
        """As compilers call it."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @property
    def bandwidth(self) -> float:
        """Bytes a second between the device and its memory, at most."""
        return 2 * self.memory_clock * 1e3 * self.bus_bits / 8


class Driver:
    """The functions of an initialized driver; every failure is a TargetError."""

    def __init__(self, functions: Mapping[str, Callable[..., int]], version: int) -> None:
        self._functions, self.version = functions, version
        status = self.status("cuInit", 0)
        if status == Status.NO_DEVICE:
            raise TargetError(
                "NVIDIA's driver finds no GPU (CUDA_ERROR_NO_DEVICE): see that "
                "CUDA_VISIBLE_DEVICES hides none, or compile for target 'cpu'"
            )
        if status == Status.SYSTEM_DRIVER_MISMATCH:
            raise TargetError(
                "NVIDIA's kernel module and libcuda.so.1 are of different versions "
                "(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH): restart the machine after an update of its "
                "driver, or give a container the library of its host"
            )
        if status:
            raise self.error("cuInit", status)

    def status(self, name: str, *arguments: object) -> int:
        """Call a function, and what it returns."""
        return self._functions[name](*arguments)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function; TargetError where it fails."""
        if status := self._functions[name](*arguments):
            raise self.error(name, status)

    def error(self, name: str, status: int) -> TargetError:
        """What a failed call means."""
        texts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            self.status(function, status, byref(text))
            texts.append((text.value or b"no text").decode())
        sentence = f"{name} of NVIDIA's driver failed with {texts[0]} ({texts[1]})"
        if status in LOST:
            sentence += (
                "; the device's context is lost with all that lies there, so that this process "
                "must end and start anew"
            )
        if status == Status.NOT_INITIALIZED:
            sentence += (
                "; a process forked from one that uses CUDA cannot use it: start it by 'spawn'"
            )
        return TargetError(sentence)

    @property
    def device_count(self) -> int:
        """How many devices this process sees."""
        return self._int("cuDeviceGetCount")

    def handle(self, index: int) -> int:
        """The driver's number of a device; TargetError where there is none of that index."""
        if not 0 <= index < self.device_count:
            known = " and ".join(self.info(i).called for i in range(self.device_count))
            raise TargetError(
                f"there is no cuda:{index}: this process sees {self.device_count}, {known}; name "
                "one of them, or let CUDA_VISIBLE_DEVICES hide none"
            )
        return self._int("cuDeviceGet", index)

    def info(self, index: int) -> GpuInfo:
        """What a device is."""
        device = self.handle(index)
        name, memory = ctypes.create_string_buffer(256), c_size_t()
        self.call("cuDeviceGetName", name, len(name), device)
        self.call("cuDeviceTotalMem_v2", byref(memory), device)

        def attribute(which: DeviceAttribute) -> int:
            return self._int("cuDeviceGetAttribute", which, device)

        return GpuInfo(
            index=index,
            name=name.value.decode(errors="replace"),
            capability=(
                attribute(DeviceAttribute.COMPUTE_CAPABILITY_MAJOR),
                attribute(DeviceAttribute.COMPUTE_CAPABILITY_MINOR),
            ),
            memory=memory.value,
            multiprocessors=attribute(DeviceAttribute.MULTIPROCESSOR_COUNT),
            registers=attribute(DeviceAttribute.MAX_REGISTERS_PER_MULTIPROCESSOR),
            shared_per_block=attribute(DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
            l2_cache=attribute(DeviceAttribute.L2_CACHE_SIZE),
            clock=attribute(DeviceAttribute.CLOCK_RATE),
            memory_clock=attribute(DeviceAttribute.MEMORY_CLOCK_RATE),
            bus_bits=attribute(DeviceAttribute.GLOBAL_MEMORY_BUS_WIDTH),
        )

    def _int(self, name: str, *arguments: object) -> int:
        value = c_int()
        self.call(name, byref(value), *arguments)
        return value.value


class Device:
    """A device and its primary context, which other libraries of the process, torch's, share.

    As a context manager it makes that context the calling thread's, and puts back what was. What
    belongs to a device does that by itself.
    """

    def __init__(self, index: int = 0, driver: Driver | None = None) -> None:
        self.driver = driver or load()
        self.info = self.driver.info(index)
        handle = self.driver.handle(index)
        context = c_void_p()
        self.driver.call("cuDevicePrimaryCtxRetain", byref(context), handle)
        self.context = context.value
        finalize(self, self.driver.status, "cuDevicePrimaryCtxRelease_v2", handle)

    def __enter__(self) -> Device:
        """Make the context that of the thread."""
        self.driver.call("cuCtxPushCurrent_v2", self.context)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back the context that was.

        What this returns may be an error of work that ran before, which whoever waits for it gets.
        """
        self.driver.status("cuCtxPopCurrent_v2", byref(c_void_p()))

    def call(self, name: str, *arguments: object) -> None:
        """Call a function in the device's context; TargetError where it fails."""
        with self:
            self.driver.call(name, *arguments)

    def status(self, name: str, *arguments: object) -> int:
        """Call a function in the device's context, and what it returns."""
        with self:
            return self.driver.status(name, *arguments)

    def create(self, name: str, *arguments: object) -> int:
        """What a function that makes something writes to its first argument."""
        made = c_void_p()
        self.call(name, byref(made), *arguments)
        assert made.value is not None, f"{name} made nothing"
        return made.value

    def owned(
        self, owner: object, name: str, handle: int | None, *, idle: bool = False
    ) -> finalize[..., object]:
        """Call ``name`` with ``handle`` when ``owner`` is forgotten, or when the result is called.

        With ``idle`` the device must have done its work before, as that may use it. The device is
        held: its context must outlive what lies there.
        """
        return finalize(owner, _forget, self, name, handle, idle)

    def synchronize(self) -> None:
        """Wait for all work of the device."""
        self.call("cuCtxSynchronize")

    def memory(self) -> tuple[int, int]:
        """Free bytes and all."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value


def _forget(device: Device, name: str, handle: int | None, idle: bool) -> None:
    """A failure is one of the context, lost already; nobody is there to be told."""
    with suppress(TargetError), device:
        if idle:
            device.driver.status("cuCtxSynchronize")
        device.driver.status(name, handle)
