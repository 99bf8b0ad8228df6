"""Kernels of tests as functions: equal ones are compiled once, neighbours in a list together.

A module takes as long as a small kernel beyond its kernels, and optimizing several at once is
quicker than one by one. Chunks are short: workers that share a list compile each chunk they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from quatrain.targets.plan.kernel import Kernel

from .machine import Machine

CHUNK = 12
Item = TypeVar("Item")
Function = Callable[..., Any]
Key = tuple[Machine, str]

_COMPILED: dict[Key, Function] = {}
_NOTES: list[list[Kernel]] = []


def chunk(item: Item, among: Sequence[Item]) -> Sequence[Item]:
    """The item and its neighbours in a list."""
    start = among.index(item) // CHUNK * CHUNK
    return among[start : start + CHUNK]


def compiled(
    kernel: Kernel, machine: Machine, beside: Callable[[], Iterable[Kernel]] = tuple
) -> Function:
    """The kernel as a function; those ``beside`` it are compiled with it where it is new."""
    key = _key(kernel, machine)
    if key not in _COMPILED:
        compile_all([kernel, *beside()], machine)
    return _COMPILED[key]


def compile_all(kernels: Iterable[Kernel], machine: Machine) -> None:
    """Compile those that are new together."""
    new = {key: k for k in kernels if (key := _key(k, machine)) not in _COMPILED}
    _COMPILED.update(zip(new, machine.compile(list(new.values())), strict=True))


@contextmanager
def noting() -> Iterator[list[Kernel]]:
    """Meanwhile kernels that ask ``noted`` are listed, and need not run."""
    _NOTES.append([])
    try:
        yield _NOTES[-1]
    finally:
        _NOTES.pop()


def noted(kernel: Kernel) -> bool:
    """Whether the kernel was listed in place of being wanted."""
    for notes in _NOTES[-1:]:
        notes.append(kernel)
    return bool(_NOTES)


def _key(kernel: Kernel, machine: Machine) -> Key:
    return machine, repr(kernel.spec)
