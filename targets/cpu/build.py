"""Kernels alone, each a function of NumPy arrays: for tests, experiments and benchmarks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..plan.kernel import Kernel
from ..plan.state import aligned_bytes
from .info import CpuInfo
from .kernels import Library, Loaded, load_kernels
from .module import Walker

Array = NDArray[Any]
LOOP = re.compile(r"\.L__tvm_parallel_lambda[.\w]*")
FUNCTION = re.compile(
    r"^\t\.type\t(\S+),@function\n\1:.*?^\.Lfunc_end\d+:$", re.MULTILINE | re.DOTALL
)


@lru_cache(maxsize=16)
def functions(library: Library) -> dict[str, str]:
    """The functions of a library by name, in the assembler's words."""
    text = str(library.module.inspect_source("asm"))
    return {found[1]: found[0] for found in FUNCTION.finditer(text)}


class Compiled:
    """A compiled kernel; calling it takes one array per slot and writes the outputs in place.

    ``run`` takes ``copies(arrays)`` and copies nothing, for timing.
    """

    def __init__(self, kernel: Loaded, outputs: int) -> None:
        self._kernel, self._outputs = kernel, outputs
        self._walkers: dict[int, Walker] = {}

    @property
    def assembly(self) -> str:
        """The code in the assembler's words, its parallel loops as functions of their own."""
        written = functions(self._kernel.library)
        body = written[f"k{self._kernel.number}"]
        return "\n".join([body, *(written[name] for name in LOOP.findall(body))])

    def __call__(self, *arrays: Array) -> None:
        held = self.copies(*arrays)
        self.run(*held)
        for array, made in list(zip(arrays, held, strict=True))[-self._outputs :]:
            array[...] = made.reshape(array.shape)

    def run(self, *arrays: Array) -> None:
        """Run on the memory of ``arrays``."""
        count = len(arrays)
        if count not in self._walkers:
            self._walkers[count] = Walker([(self._kernel, [(i, 0) for i in range(count)])], count)
        self._walkers[count]([array.ctypes.data for array in arrays])

    def copies(self, *arrays: Array) -> list[Array]:
        """Aligned copies, flat."""
        made: list[Array] = []
        for array in arrays:
            made.append(aligned_bytes(array.nbytes).view(array.dtype))
            made[-1][...] = array.reshape(-1)
        return made


def compile_kernel(kernel: Kernel, cpu: CpuInfo) -> Compiled:
    """Compile ``kernel`` for ``cpu``; its slots' arrays come in order, outputs last."""
    return compile_kernels([kernel], cpu)[0]


def compile_kernels(
    kernels: Sequence[Kernel], cpu: CpuInfo, cache_dir: Path | None = None
) -> list[Compiled]:
    """Compile several, which takes less than one by one; those in a cache folder are there."""
    loaded = load_kernels((kernel.spec for kernel in kernels), cpu, cache_dir)
    return [Compiled(loaded[kernel.spec], len(kernel.outputs)) for kernel in kernels]
