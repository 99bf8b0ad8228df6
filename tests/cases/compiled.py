"""Kernels of tests as functions: equal ones are compiled once, neighbours in a list together.

A module takes as long as a small kernel beyond its kernels, and optimizing several at once is
quicker than one by one. Chunks are short: workers that share a list compile each chunk they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from quatrain.targets.cpu.build import Compiled, compile_kernels
from quatrain.targets.cpu.info import CpuInfo
from quatrain.targets.plan.kernel import Kernel

CHUNK = 12
Item = TypeVar("Item")
Key = tuple[CpuInfo, str]

_COMPILED: dict[Key, Compiled] = {}


def chunk(item: Item, among: Sequence[Item]) -> Sequence[Item]:
    """The item and its neighbours in a list."""
    start = among.index(item) // CHUNK * CHUNK
    return among[start : start + CHUNK]


def compiled(
    kernel: Kernel, cpu: CpuInfo, beside: Callable[[], Iterable[Kernel]] = tuple
) -> Compiled:
    """The kernel as a function; those ``beside`` it are compiled with it where it is new."""
    key = _key(kernel, cpu)
    if key not in _COMPILED:
        wanted = {_key(k, cpu): k for k in (kernel, *beside())}
        new = {k: v for k, v in wanted.items() if k not in _COMPILED}
        _COMPILED.update(zip(new, compile_kernels(list(new.values()), cpu), strict=True))
    return _COMPILED[key]


def _key(kernel: Kernel, cpu: CpuInfo) -> Key:
    return cpu, repr(kernel.spec)
