"""The face to NVIDIA's driver, on a driver that stands in for it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from ctypes import byref, c_void_p

import numpy as np
import pytest

from quatrain.compiler.errors import TargetError
from quatrain.targets.cuda import driver
from quatrain.targets.cuda.driver import Device
from quatrain.targets.cuda.graph import Graph
from quatrain.targets.cuda.memory import DeviceMemory, allocate, pinned
from quatrain.targets.cuda.module import Module
from quatrain.targets.cuda.stream import Event, Stream

from ..cuda.emulate import has_compiler
from ..cuda.standin import NUMBERS, SIZE, SOURCE, failing, image, numbers, read, standin

pytestmark = pytest.mark.skipif(not has_compiler(), reason="the stand-in needs g++")


@pytest.fixture
def device() -> Iterator[Device]:
    with standin(memory=1 << 20):
        yield Device()


def test_no_driver() -> None:
    with pytest.raises(
        TargetError, match=r"no libnone.so.1 here: install NVIDIA's driver, or .*cpu"
    ):
        driver.load("libnone.so.1")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"devices": 0}, r"finds no GPU \(CUDA_ERROR_NO_DEVICE\): see that CUDA_VISIBLE_DEVICES"),
        ({"init": 100}, r"finds no GPU \(CUDA_ERROR_NO_DEVICE\)"),
        ({"init": 803}, "kernel module and libcuda.so.1 are of different versions"),
        ({"init": 3}, r"cuInit .* CUDA_ERROR_NOT_INITIALIZED .* a process forked .* 'spawn'"),
        ({"init": 1}, "cuInit of NVIDIA's driver failed with CUDA_ERROR_INVALID_VALUE"),
        ({"init": 12345}, "failed with no text"),
        ({"version": 11080}, "one for CUDA 11.8, and the target needs one for 12.0 or later"),
    ],
)
def test_a_driver_of_no_use(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(TargetError, match=sentence), standin(**settings):
        pass


def test_a_library_that_is_none() -> None:
    with pytest.raises(TargetError, match=r"libm.so.6 is not NVIDIA's driver"):
        driver.load("libm.so.6")


def test_what_a_device_is() -> None:
    with standin(devices=2, capability=80, memory=3 << 20, version=12000) as found:
        assert (found.version, found.device_count) == (12000, 2)
        info = found.info(1)
    assert (info.index, info.name, info.arch) == (1, "Emulated GPU 1", "sm_80")
    assert (info.memory, info.multiprocessors, info.registers) == (3 << 20, 132, 65536)
    assert (info.shared_per_block, info.l2_cache) == (227 << 10, 50 << 20)
    assert info.bandwidth == pytest.approx(3.35e12, rel=0.01)


def test_no_such_device() -> None:
    with (
        standin(devices=2),
        pytest.raises(
            TargetError, match=r"no cuda:2: this process sees 2, cuda:0 \(Em.* and cuda:1 \(E"
        ),
    ):
        Device(2)


def test_memory(device: Device) -> None:
    first, second = numbers(device), DeviceMemory(device, SIZE)
    assert first.address % 256 == 0
    assert read(second).all(), "memory is no zeros by itself"
    stream = Stream(device)
    stream.copy(second.address, first.address, SIZE)
    stream.fill(second.address + 4, 0xFF, 8)
    stream.synchronize()
    np.testing.assert_array_equal(read(second), [0, -1, -1, *NUMBERS[3:]])
    with failing("cuMemsetD8Async", "INVALID_VALUE"):
        stream.fill(second.address, 0, SIZE + 1)


def test_memory_is_given_back(device: Device) -> None:
    assert device.memory() == (1 << 20, 1 << 20)
    first, second = DeviceMemory(device, 1000), DeviceMemory(device, 0)
    assert device.memory()[0] == (1 << 20) - 1001
    first.free()
    first.free()
    del second
    assert device.memory()[0] == 1 << 20


def test_no_room(device: Device) -> None:
    held = DeviceMemory(device, 700 << 10)
    sentence = r"cuda:0 \(Emulated GPU 0\) has no room for 400.0 KiB: 324.0 KiB of its 1.0 MiB are free .*smaller batch"
    with pytest.raises(TargetError, match=sentence):
        DeviceMemory(device, 400 << 10)
    with pytest.raises(TargetError, match=r"no room for 200.0 KiB: 23.9 KiB of"):
        allocate(device, [100, 300 << 10, 200 << 10])
    assert device.memory()[0] == 324 << 10, "nothing is half allocated"
    held.free()
    assert [m.size for m in allocate(device, [100, 300 << 10, 200 << 10])] == [
        100,
        300 << 10,
        200 << 10,
    ]
    with pytest.raises(
        TargetError, match=r"no room for 2.0 MiB of memory that the system may not move"
    ):
        pinned(device, 2 << 20)


def test_pinned_memory_lives_as_long_as_arrays_that_show_it(device: Device) -> None:
    part = pinned(device, SIZE).view(np.int32)[:4]
    gc.collect()
    part[...] = 7
    memory = numbers(device, part)
    assert read(memory).tolist() == [7] * 4
    address = part.ctypes.data
    del part, memory
    gc.collect()
    with failing("cuMemFreeHost", "INVALID_VALUE"):
        device.call("cuMemFreeHost", address)


def test_a_context_is_put_back(device: Device) -> None:
    """Another library of the process has a context of its own, as torch has on another device."""
    with standin(devices=2) as both:
        first, second = Device(0, both), Device(1, both)
        with first:
            numbers(second)
            with second:
                numbers(first)
            popped = c_void_p()
            both.call("cuCtxPopCurrent_v2", byref(popped))
            assert popped.value == first.context
            both.call("cuCtxPushCurrent_v2", popped)
        with pytest.raises(TargetError, match="CUDA_ERROR_INVALID_CONTEXT"):
            both.call("cuCtxSynchronize")


def test_two_devices_have_memory_of_their_own() -> None:
    with standin(devices=2, memory=1000):
        first, second = Device(0), Device(1)
        held = DeviceMemory(first, 1000)
        with pytest.raises(TargetError, match=r"cuda:0 \(Emulated GPU 0\) has no room"):
            DeviceMemory(first, 1)
        assert DeviceMemory(second, 1000).size == held.size


def test_what_belongs_to_a_device_is_refused_on_another() -> None:
    with standin(devices=2):
        first, second = Device(0), Device(1)
        memory, twice = numbers(first), Module(first, image(SOURCE)).function("twice")
        stream, event = Stream(first), Event(first)
        theirs, graph = Stream(second), Graph(second)
        with failing("cuMemcpyHtoDAsync_v2", "INVALID_VALUE"):
            theirs.upload(memory.address, NUMBERS)
        with failing("cuMemsetD8Async", "INVALID_VALUE"):
            theirs.fill(memory.address, 0, SIZE)
        with failing("cuMemFree_v2", "INVALID_VALUE"):
            second.call("cuMemFree_v2", memory.address)
        with failing("cuStreamSynchronize", "INVALID_HANDLE"):
            Stream(second, stream.handle).synchronize()
        with failing("cuEventRecord", "INVALID_HANDLE"):
            event.record(theirs)
        with failing("cuLaunchKernel", "INVALID_HANDLE"):
            theirs.launch(twice, (1,), (32,), [memory.address] * 2)
        with failing("cuGraphAddKernelNode_v2", "INVALID_HANDLE"):
            graph.kernel(twice, (1,), (32,), 0, [memory.address] * 2)
        with failing("cuGraphAddMemsetNode", "INVALID_VALUE"):
            graph.fill(memory.address, 0, SIZE)
        with failing("cuGraphLaunch", "INVALID_HANDLE"):
            graph.instantiate().launch(stream)
        # What another device did may be waited for.
        event.record(stream)
        theirs.wait(event)
        np.testing.assert_array_equal(read(memory), NUMBERS)


def test_a_kernel_that_is_given_memory_of_another_device(capfd: pytest.CaptureFixture[str]) -> None:
    with standin(devices=2):
        first, second = Device(0), Device(1)
        memory, made = numbers(first), DeviceMemory(second, SIZE)
        twice, stream = Module(second, image(SOURCE)).function("twice"), Stream(second)
        with failing("cu.*", "ILLEGAL_ADDRESS"):
            stream.launch(twice, (1,), (32,), [memory.address, made.address])
            stream.synchronize()
        assert "memory of another device" in capfd.readouterr().err
        np.testing.assert_array_equal(read(memory), NUMBERS)


def test_another_thread(device: Device) -> None:
    seen: list[np.ndarray] = []
    memory = numbers(device)
    thread = threading.Thread(target=lambda: seen.append(read(memory)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(seen[0], NUMBERS)


def test_kernels(device: Device) -> None:
    module = Module(device, image(SOURCE))
    twice = module.function("twice")
    assert (twice.registers, twice.local_bytes, twice.static_shared, twice.most_threads) == (
        32,
        0,
        0,
        32,
    )
    given, made = numbers(device, np.arange(64, dtype=np.int32)), DeviceMemory(device, 2 * SIZE)
    stream = Stream(device)
    del module
    stream.launch(twice, (2,), (32,), [given.address, made.address])
    stream.synchronize()
    np.testing.assert_array_equal(read(made), 2 * np.arange(64))
    with failing("cuLaunchKernel", "INVALID_VALUE"):
        stream.launch(twice, (1,), (64,), [given.address, made.address])


def test_shared_memory_is_asked_for(device: Device) -> None:
    kernel = Module(device, image(SOURCE)).function("shared")
    given, made = numbers(device), DeviceMemory(device, SIZE)
    stream, places = Stream(device), [given.address, made.address]
    with pytest.raises(TargetError, match="CUDA_ERROR_INVALID_VALUE"):
        stream.launch(kernel, (1,), (32,), places, 64 << 10)
    kernel.allow_shared(64 << 10)
    stream.launch(kernel, (1,), (32,), places, 64 << 10)
    np.testing.assert_array_equal(read(made), NUMBERS[::-1])
    with failing("cuFuncSetAttribute", "INVALID_VALUE"):
        kernel.allow_shared(228 << 10)


def test_modules_that_are_none(device: Device) -> None:
    with pytest.raises(TargetError, match="have none that is called thrice"):
        Module(device, image(SOURCE)).function("thrice")
    sentence = r"do not run on cuda:0 \(Emulated GPU 0\), whose architecture is sm_90: compile them for it .*{}"
    for data, name in [
        (image(SOURCE, capability=80), "NO_BINARY_FOR_GPU"),
        (b".version 8.0\n.target sm_90\0", "INVALID_PTX"),
        (b"\x7fELF\0", "INVALID_IMAGE"),
    ]:
        with pytest.raises(TargetError, match=sentence.format(name)):
            Module(device, data)


def test_a_failed_kernel_loses_the_context(capfd: pytest.CaptureFixture[str]) -> None:
    with standin(devices=2):
        first, second = Device(0), Device(1)
        memory, stream = numbers(first), Stream(first)
        kernel = Module(first, image(SOURCE)).function("nowhere")
        sentence = (
            r"failed with CUDA_ERROR_ILLEGAL_ADDRESS \(an illegal memory access was encountered\); "
            "the device's context is lost .* must end and start anew"
        )
        with pytest.raises(TargetError, match=sentence):
            stream.launch(kernel, (1,), (32,), [memory.address])
        for _ in range(2):
            with pytest.raises(TargetError, match=r"cuStreamSynchronize .* context is lost"):
                stream.synchronize()
        with pytest.raises(TargetError, match=r"cuMemAlloc_v2 .* context is lost"):
            DeviceMemory(first, 4)
        np.testing.assert_array_equal(read(numbers(second)), NUMBERS)
    assert "an access to 0x4, which is no memory" in capfd.readouterr().err


def test_a_kernel_that_writes_around_its_memory(device: Device) -> None:
    memory = numbers(device)
    with pytest.raises(TargetError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        kernel = Module(device, image(SOURCE)).function("too_far")
        Stream(device).launch(kernel, (1,), (32,), [memory.address])


def test_failures_of_work_show_where_it_is_waited_for() -> None:
    with standin(late=1):
        device = Device()
        memory, stream = numbers(device), Stream(device)
        kernel = Module(device, image(SOURCE)).function("nowhere")
        stream.launch(kernel, (1,), (32,), [memory.address])
        with pytest.raises(TargetError, match=r"cuStreamSynchronize .* context is lost"):
            stream.synchronize()
