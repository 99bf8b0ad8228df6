"""Shared libraries of kernels in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tvm_ffi

from ...compiler.errors import TargetError
from ..plan.kernel import KernelSpec
from ..plan.plan import Plan
from ..plan.pool import HostMemory
from ..plan.stored import BuiltKernel
from ..tir.runtime import RUNTIME, load_runtime
from .executable import CpuExecutable
from .kernels import Library, Loaded, opened
from .module import compiled_step
from .threads import all_threads


class OpenedLibraries:
    """See ``BuiltCode``."""

    def __init__(
        self,
        folder: Path,
        kernels: Sequence[BuiltKernel],
        state_bytes: int,
        threads: int | None,
    ) -> None:
        self.memory = HostMemory()
        self._state_bytes, self._threads = state_bytes, threads or all_threads()
        libraries = _opened(folder, {kernel.file for kernel in kernels})
        for kernel in kernels:
            if not 0 <= kernel.number < libraries[kernel.file].count:
                raise TargetError(
                    f"{kernel.file} in {folder} has no kernel {kernel.number}: build it again"
                )
        self._kernels: dict[KernelSpec, Loaded] = {
            k: Loaded(libraries[k.file], k.number) for k in kernels
        }

    def executable(self, plan: Plan) -> CpuExecutable:
        """See ``BuiltCode``."""
        step = compiled_step(plan, self._state_bytes, self._kernels)
        return CpuExecutable(plan, step, self.memory, self._threads)


def _opened(folder: Path, files: set[str]) -> dict[str, Library]:
    try:
        load_runtime(folder / RUNTIME)
        return {file: opened(tvm_ffi.load_module(str(folder / file))) for file in sorted(files)}
    except (OSError, RuntimeError, AttributeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TargetError(f"the libraries in {folder} cannot be loaded here: {said}") from None
