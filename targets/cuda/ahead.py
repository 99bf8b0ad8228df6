"""Machine code for a GPU ahead of time; none need be here."""

from __future__ import annotations

from collections.abc import Sequence
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


def build(plans: Sequence[Plan], kept: Unapplied, arch: str) -> MachineCode:
    """All kernels of ``plans`` and of what settles a step; TargetError without a compiler."""
    compiler = find_compiler(_newest())
    from .images import compiled, in_shares

    settle = settle_of(kept, 0)
    planned: list[KernelSpec] = [k.kernel.spec for plan in plans for k in plan.kernels]
    specs = list(dict.fromkeys([*planned, *([settle] if settle else [])]))
    files: dict[str, bytes] = {}
    kernels: dict[KernelSpec, BuiltKernel] = {}
    for share, image in in_shares(specs, lambda share: compiled(share, arch, compiler)):
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
