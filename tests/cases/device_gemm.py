"""GEMM cases on the kernels of the ``cuda`` target, in the emulator."""

from __future__ import annotations

from collections.abc import Sequence

from quatrain.compiler.ir import Value
from quatrain.targets.cuda.gemm.spec import DeviceGemm
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order

from ..cuda.emulated import EmulatedGpu
from .compiled import chunk, compiled
from .gemm_case import Case, Draw, Drawn, compare, tensor

GPU = EmulatedGpu()


def device_kernel(case: Case) -> tuple[Kernel, dict[Value, Order]]:
    """The kernel and the order of every value."""
    ops, orders = case.ordered()
    return GPU.kernel(Group(ops, (ops[-1].result,), "forward"), orders), orders


def device_spec(case: Case) -> DeviceGemm:
    """What decides the kernel's code."""
    spec = device_kernel(case)[0].spec
    assert isinstance(spec, DeviceGemm)
    return spec


def check_on_device(
    case: Case, way: str, *, beside: Sequence[Case] = (), draw: Draw = tensor
) -> None:
    """A case is made by a way, in every order of threads alike, as the reference says."""
    kernel, orders = device_kernel(case)
    assert device_spec(case).way.name == way
    drawn = Drawn.of(kernel, orders, draw)

    def neighbours() -> list[Kernel]:
        return [device_kernel(c)[0] for c in chunk(case, beside or (case,))]

    compare(case, kernel, drawn.operands, drawn.result(compiled(kernel, GPU, neighbours)))
