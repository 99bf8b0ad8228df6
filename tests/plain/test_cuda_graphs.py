"""Streams, events and graphs of a GPU, on a driver that stands in for NVIDIA's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from quatrain.targets.cuda.driver import Device
from quatrain.targets.cuda.graph import Graph
from quatrain.targets.cuda.memory import DeviceMemory, allocate, pinned
from quatrain.targets.cuda.module import Module
from quatrain.targets.cuda.stream import MOST_HELD, Event, Stream

from ..cuda.emulate import has_compiler
from ..cuda.standin import NUMBERS, SIZE, SOURCE, failing, image, numbers, read, standin

pytestmark = pytest.mark.skipif(not has_compiler(), reason="the stand-in needs g++")


@pytest.fixture
def device() -> Iterator[Device]:
    with standin():
        yield Device()


@pytest.mark.parametrize("late", [False, True])
def test_a_buffer_of_the_host_that_is_used_again_too_early(late: bool) -> None:
    with standin(late=late):
        device = Device()
        memory, stream, buffer = DeviceMemory(device, SIZE), Stream(device), NUMBERS.copy()
        stream.upload(memory.address, buffer)
        buffer[...] = 0
        stream.synchronize()
        assert np.array_equal(read(memory), NUMBERS) is not late


def test_a_buffer_of_the_host_that_nobody_keeps() -> None:
    with standin(late=1):
        device = Device()
        memory, stream = DeviceMemory(device, SIZE), Stream(device)
        stream.upload(memory.address, NUMBERS.copy())
        gc.collect()
        stream.synchronize()
        np.testing.assert_array_equal(read(memory), NUMBERS)


def test_a_stream_that_nobody_waits_for_holds_a_bounded_number_of_arrays() -> None:
    with standin(late=1):
        device = Device()
        count = 2 * MOST_HELD + 3
        memory, stream = DeviceMemory(device, 4 * count), Stream(device)
        given = [np.full(1, i, np.int32) for i in range(count)]
        left = [weakref.ref(array) for array in given]
        while given:
            stream.upload(memory.address + 4 * (count - len(given)), given.pop(0))
            assert len(stream._held) <= MOST_HELD
        # The others were copied, and forgotten.
        assert sum(ref() is not None for ref in left) == 3
        stream.synchronize()
        np.testing.assert_array_equal(read(memory), np.arange(count))


def test_what_is_forgotten_while_the_device_uses_it() -> None:
    with standin(late=1):
        device = Device()
        made, stream = DeviceMemory(device, SIZE), Stream(device)
        source = pinned(device, SIZE).view(np.int32)
        source[...] = NUMBERS
        given = DeviceMemory(device, SIZE)
        stream.upload(given.address, source)
        twice = Module(device, image(SOURCE)).function("twice")
        stream.launch(twice, (1,), (32,), [given.address, made.address])
        del twice
        gc.collect()
        del source, given
        np.testing.assert_array_equal(read(made), 2 * NUMBERS)
        stream.synchronize()


@pytest.mark.parametrize("waits", [False, True])
def test_two_streams(waits: bool) -> None:
    with standin(late=1):
        device = Device()
        twice = Module(device, image(SOURCE)).function("twice")
        given, between, made = (
            numbers(device),
            DeviceMemory(device, SIZE),
            DeviceMemory(device, SIZE),
        )
        first, second, event = Stream(device), Stream(device), Event(device, timed=False)
        first.launch(twice, (1,), (32,), [given.address, between.address])
        event.record(first)
        if waits:
            second.wait(event)
        second.launch(twice, (1,), (32,), [between.address, made.address])
        second.synchronize()
        assert np.array_equal(read(made), 4 * NUMBERS) is waits
        first.synchronize()


def test_events(device: Device) -> None:
    stream, begin, end = Stream(device), Event(device), Event(device)
    begin.record(stream)
    stream.launch(
        Module(device, image(SOURCE)).function("twice"),
        (1,),
        (32,),
        [numbers(device).address, DeviceMemory(device, SIZE).address],
    )
    end.record(stream)
    end.synchronize()
    assert begin.milliseconds_until(end) > 0
    with failing("cuEventElapsedTime", "INVALID_HANDLE"):
        begin.milliseconds_until(Event(device))


def test_streams_of_another_library() -> None:
    with standin(late=1):
        device = Device()
        theirs, memory = Stream(device), numbers(device)
        for handle in (theirs.handle, 0):
            ours = Stream(device, handle)
            ours.fill(memory.address, handle and 1, SIZE)
            ours.synchronize()
            assert set(read(memory).tolist()) == {0x01010101 if handle else 0}
            del ours
        theirs.synchronize()


def diamond(device: Device, *, whole: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Results of a graph of three kernels, of which one waits for both others, and what is right.

    It runs with each of two sets of addresses, many times.
    """
    module = Module(device, image(SOURCE))
    twice, add = module.function("twice"), module.function("add")
    graph, stream = Graph(device), Stream(device)
    sets = [[numbers(device, NUMBERS + k), *allocate(device, [SIZE] * 3)] for k in (0, 100)]
    x, y, z, out = (m.address for m in sets[0])
    first = graph.kernel(twice, (1,), (32,), 0, [x, y])
    second = graph.kernel(twice, (1,), (32,), 0, [x, z])
    last = graph.kernel(add, (1,), (32,), 0, [y, z, out], [first, second] if whole else [first])
    executable = graph.instantiate()
    made, want = [], []
    for turn in range(20):
        x, y, z, out = (m.address for m in sets[turn % 2])
        executable.set_addresses(first, [x, y])
        executable.set_addresses(second, [x, z])
        executable.set_addresses(last, [y, z, out])
        for address in (y, z, out):
            stream.fill(address, 0, SIZE)
        executable.launch(stream)
        stream.synchronize()
        made.append(read(sets[turn % 2][3]))
        want.append(4 * (NUMBERS + (turn % 2) * 100))
    return made, want


@pytest.mark.parametrize("seed", [0, 1])
def test_a_graph_with_other_addresses(seed: int) -> None:
    with standin(seed=seed):
        np.testing.assert_array_equal(*diamond(Device(), whole=True))


def test_a_dependency_that_is_missing_shows() -> None:
    with standin():
        made, want = diamond(Device(), whole=False)
        right = [np.array_equal(m, w) for m, w in zip(made, want, strict=True)]
        assert any(right) and not all(right)


def test_addresses_of_a_launch_are_those_of_its_time() -> None:
    with standin(late=1):
        device = Device()
        graph, stream = Graph(device), Stream(device)
        x, y, z = numbers(device), DeviceMemory(device, SIZE), DeviceMemory(device, SIZE)
        node = graph.kernel(
            Module(device, image(SOURCE)).function("twice"), (1,), (32,), 0, [x.address, y.address]
        )
        executable = graph.instantiate()
        executable.launch(stream)
        executable.set_addresses(node, [x.address, z.address])
        executable.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(read(y), 2 * NUMBERS)
        np.testing.assert_array_equal(read(z), 2 * NUMBERS)


def test_a_graph_that_fills_and_copies(device: Device) -> None:
    graph, stream = Graph(device), Stream(device)
    x, y = numbers(device), DeviceMemory(device, SIZE)
    copied = graph.copy(y.address, x.address, SIZE)
    filled = graph.fill(y.address + 8, 0, 4, [copied])
    graph.copy(x.address, y.address, SIZE, [filled])
    executable = graph.instantiate()
    del graph, copied, filled
    for _ in range(5):
        executable.launch(stream)
    np.testing.assert_array_equal(read(x), [0, 1, 0, *NUMBERS[3:]])


def test_a_graph_refuses_what_cannot_be(device: Device) -> None:
    graph, x = Graph(device), numbers(device)
    twice = Module(device, image(SOURCE)).function("twice")
    with failing("cuGraphAddMemcpyNode", "INVALID_VALUE"):
        graph.copy(x.address, x.address, SIZE + 1)
    with failing("cuGraphAddKernelNode_v2", "INVALID_VALUE"):
        graph.kernel(twice, (1,), (33,), 0, [x.address] * 2)
    foreign = Graph(device).fill(x.address, 0, 4)
    with failing("cuGraphAddMemsetNode", "INVALID_VALUE"):
        graph.fill(x.address, 0, 4, [foreign])
