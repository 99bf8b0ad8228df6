"""Machine code for a CPU ahead of time: libraries of kernels, and what calls of them need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...compiler.errors import TargetError
from ..plan.kernel import KernelSpec
from ..plan.plan import Plan
from ..plan.stored import BuiltKernel, MachineCode
from ..tir.runtime import RUNTIME, load_package, runtime_library
from ..tir.store import digest
from .info import CpuInfo, flags, used_features
from .kernels import LINKERS, has_linker

# Kernels a library, whatever this machine is: equal steps give equal files.
SHARE = 12


def build(plans: Sequence[Plan], cpu: CpuInfo, *, here: bool) -> MachineCode:
    """All kernels of ``plans``; ``here``: for what this machine has of the CPU's features."""
    if not has_linker():
        raise TargetError(
            f"there is no linker here, so no library can be made: install {' or '.join(LINKERS)}"
        )
    library = runtime_library()
    if library is None:
        raise TargetError(f"the package apache-tvm brings no {RUNTIME} here: install it again")
    specs = tuple(dict.fromkeys(k.kernel.spec for plan in plans for k in plan.kernels))
    files, kernels = _libraries(specs, cpu)
    used = used_features(cpu) & flags() if here and flags() else used_features(cpu)
    facts = {"cpu": cpu.mcpu, "features": sorted(used)}
    return MachineCode({**files, RUNTIME: library.read_bytes()}, kernels, facts)


def _libraries(
    specs: Sequence[KernelSpec], cpu: CpuInfo
) -> tuple[dict[str, bytes], dict[KernelSpec, BuiltKernel]]:
    """Files by name, and where each kernel is."""
    load_package()
    from .generate import generate

    def made(share: Sequence[KernelSpec]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="quatrain-") as folder:
            path = Path(folder) / "kernels.so"
            generate(share, cpu).export_library(str(path))
            return path.read_bytes()

    shares = [specs[i : i + SHARE] for i in range(0, len(specs), SHARE)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        libraries = list(pool.map(made, shares))
    names = [f"kernels-{digest(data)}.so" for data in libraries]
    places = {
        spec: BuiltKernel(spec.name, name, i)
        for share, name in zip(shares, names, strict=True)
        for i, spec in enumerate(share)
    }
    return dict(zip(names, libraries, strict=True)), places
