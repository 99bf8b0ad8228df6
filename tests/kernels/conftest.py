"""Kernels of neighbouring tests are compiled together."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture
def emulated() -> Iterator[None]:
    """Kernels are made for a GPU, and run in the emulator."""
    from ..cases.machine import on
    from ..cuda.emulate import has_compiler
    from ..cuda.emulated import EmulatedGpu

    if not has_compiler():
        pytest.skip("the emulator needs g++")
    with on(EmulatedGpu()):
        yield


@pytest.fixture
def together(request: pytest.FixtureRequest) -> None:
    """Compile what a test and its neighbours in the file run on one kernel.

    The tests run once ahead, with what they want in place of what kernels make.
    """
    # Here, as both load TVM.

    from ..cases.compiled import chunk, compile_all, noting
    from ..cases.machine import machine

    tests = [
        item
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    near = chunk(request.node, tests)
    if near[0].stash.setdefault(DONE, request.node) is not request.node:
        return
    with noting() as kernels:
        for item in near:
            given = item.callspec.params if hasattr(item, "callspec") else {}
            # A test that fails or skips fails or skips again, under its own name.
            with suppress(Exception, pytest.skip.Exception):
                if set(inspect.signature(item.function).parameters) <= set(given):
                    item.function(**given)
    compile_all(kernels, machine())


DONE = pytest.StashKey[pytest.Item]()
