"""A CUDA driver for tests whose devices are this CPU: ``libcuda/``, with kernels in the emulator.

    with standin(devices=2):        # driver.load() finds it
        Module(Device(1), image(source))

What a test may ask for, by ``CUDA_STANDIN`` in the environment, read when the driver is initialized:

    devices     how many there are
    version     of the driver, 12040 for CUDA 12.4
    capability  of the devices, 90 for 9.0
    other       of those behind the first, where it is another one
    memory      bytes of each
    init        what cuInit returns where that is to fail
    seed        of the order in which a graph's nodes run; each launch has another one
    late        1: streams work when they are waited for, and then do no more than they must
    backwards, early    the emulator's orders
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import TargetError
from quatrain.targets.cuda import driver
from quatrain.targets.cuda.driver import Device
from quatrain.targets.cuda.memory import DeviceMemory
from quatrain.targets.cuda.stream import Stream

from . import emulate

HERE = Path(__file__).parent / "libcuda"
VARIABLE = "CUDA_STANDIN"
# Kernels for tests of the driver, and what they take.
SOURCE = (HERE.parent / "kernels" / "driver.cu").read_text()
NUMBERS = np.arange(32, dtype=np.int32)
SIZE = NUMBERS.nbytes


@cache
def library() -> Path:
    """The stand-in for libcuda.so.1."""
    parts = ("state.h", "driver.cc", "module.cc", "graph.cc")
    source = "".join((HERE / name).read_text().replace("#pragma once", "") for name in parts)
    script = "-Wl,-soname,libcuda.so.1"
    return emulate.built(source, "-O1", script, str(emulate.emulator()), name="libcuda.so.1")


def image(source: str, capability: int | None = None) -> bytes:
    """What stands for the machine code of CUDA C; for all devices, or those of a capability."""
    word = "emulated" if capability is None else f"emulated@{capability}"
    return f"{word}:{emulate.library(source)}".encode() + b"\0"


@contextmanager
def standin(**settings: int) -> Iterator[driver.Driver]:
    """Let ``driver.load()`` give the stand-in, with settings as above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, ",".join(f"{name}={int(value)}" for name, value in settings.items()))
        patch.setattr(driver, "LIBRARY", str(library()))
        driver.load.cache_clear()
        try:
            yield driver.load()
        finally:
            driver.load.cache_clear()


def numbers(device: Device, values: np.ndarray = NUMBERS) -> DeviceMemory:
    """Memory with an array in it."""
    memory, stream = DeviceMemory(device, values.nbytes), Stream(device)
    stream.upload(memory.address, values)
    stream.synchronize()
    return memory


def read(memory: DeviceMemory) -> np.ndarray:
    """What lies in memory, as integers."""
    out, stream = np.zeros(memory.size // 4, np.int32), Stream(memory.device)
    stream.download(out, memory.address)
    stream.synchronize()
    return out


def failing(function: str, error: str) -> pytest.RaisesExc[TargetError]:
    """What expects that a function of the driver fails with ``CUDA_ERROR_...``."""
    return pytest.raises(TargetError, match=f"{function} .* CUDA_ERROR_{error}")
