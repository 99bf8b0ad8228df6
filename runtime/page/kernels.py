"""The kernels of a plan as a page shows them: what each covers, reads and makes, and its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.ir.ops import PRODUCTS
from ...targets.plan.kernel import Kernel, Slot, Unit
from ...targets.plan.plan import Plan
from .shades import shade
from .source import KernelTimes

NO_GEMM = ""


@dataclass(frozen=True, slots=True)
class PageKernel:
    """A kernel: ``layer`` is the one that its time counts with, ``shade`` 0 where none multiplies.

    Of a kernel that covers several layers that is the one whose product it computes.
    """

    name: str
    region: str
    layer: str
    layers: tuple[str, ...]
    ops: tuple[str, ...]
    unit: str
    shade: int
    runs: int
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    seconds: float | None


def kernels(plan: Plan, times: KernelTimes | None) -> tuple[PageKernel, ...]:
    """All kernels in their order."""
    seconds: Sequence[float | None] = times.seconds if times else [None] * len(plan.kernels)
    return tuple(
        PageKernel(
            planned.kernel.spec.name,
            planned.region,
            _main_layer(planned.kernel),
            tuple(dict.fromkeys(op.origin for op in planned.kernel.ops if op.origin)),
            tuple(op.kind for op in planned.kernel.ops),
            NO_GEMM if planned.kernel.unit is Unit.NONE else planned.kernel.unit.value,
            _shade(planned.kernel),
            planned.loop.count if planned.loop else 1,
            _names(planned.kernel.inputs),
            _names(planned.kernel.outputs),
            took,
        )
        for planned, took in zip(plan.kernels, seconds, strict=True)
    )


def _main_layer(kernel: Kernel) -> str:
    products = (op.origin for op in kernel.ops if op.kind in PRODUCTS and op.origin)
    others = (op.origin for op in kernel.ops if op.origin)
    return next(products, next(others, ""))


def _shade(kernel: Kernel) -> int:
    """That of the wider operand of what it multiplies, as stored."""
    bits = [
        value.type.format.bits for op in kernel.ops if op.kind in PRODUCTS for value in op.inputs
    ]
    return shade(max(bits)) if bits else 0


def _names(slots: tuple[Slot, ...]) -> tuple[str, ...]:
    """Values with their types; scales go with them."""
    return tuple(f"{s.value.name} : {s.value.type}" for s in slots if not s.scale)
