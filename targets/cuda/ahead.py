"""Machine code for a GPU ahead of time; none need be here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ...compiler.errors import TargetError
from ..plan.kernel import KernelSpec
from ..plan.plan import Plan
from ..plan.state import Unapplied
from ..plan.stored import BuiltKernel, MachineCode
from ..tir.store import digest
from . import driver
from .compiler import find_compiler
from .settle import settle_of

# Kernels an image, whatever this machine is: equal steps give equal files.
SHARE = 16


def build(plans: Sequence[Plan], kept: Unapplied, arch: str) -> MachineCode:
    """All kernels of ``plans`` and of what settles a step; TargetError without a compiler."""
    compiler = find_compiler(_newest())
    from ..tir.runtime import load_package

    load_package()
    from .images import compiled

    settle = settle_of(kept, 0)
    planned: list[KernelSpec] = [k.kernel.spec for plan in plans for k in plan.kernels]
    specs = list(dict.fromkeys([*planned, *([settle] if settle else [])]))
    shares = [specs[i : i + SHARE] for i in range(0, len(specs), SHARE)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        images = list(pool.map(lambda share: compiled(share, arch, compiler), shares))
    files: dict[str, bytes] = {}
    kernels: dict[KernelSpec, BuiltKernel] = {}
    for share, image in zip(shares, images, strict=True):
        name = f"kernels-{digest(image.cubin)}.cubin"
        files[name] = image.cubin
        for i, (spec, launches) in enumerate(zip(share, image.shapes, strict=True)):
            kernels[spec] = BuiltKernel(spec.name, name, i, launches)
    facts = {"arch": arch, "compiler": compiler.name}
    return MachineCode(files, kernels, facts, kernels[settle] if settle else None)


def _newest() -> int | None:
    """What a driver that is here takes; where there is none another machine's is not known."""
    with suppress(TargetError):
        return driver.load().version // 1000
    return None
