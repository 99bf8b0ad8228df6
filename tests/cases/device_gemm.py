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


def device_kernel(case: Case, gpu: EmulatedGpu = GPU) -> tuple[Kernel, dict[Value, Order]]:
    """The kernel and the order of every value."""
    ops, orders = case.ordered()
    return gpu.kernel(Group(ops, (ops[-1].result,), "forward"), orders), orders


def device_spec(case: Case, gpu: EmulatedGpu = GPU) -> DeviceGemm:
    """What decides the kernel's code."""
    spec = device_kernel(case, gpu)[0].spec
    assert isinstance(spec, DeviceGemm)
    return spec


def check_on_device(
    case: Case,
    way: str,
    *,
    beside: Sequence[Case] = (),
    draw: Draw = tensor,
    gpu: EmulatedGpu = GPU,
) -> None:
    """A case is made by a way, in every order of threads alike, as the reference says."""
    kernel, orders = device_kernel(case, gpu)
    assert device_spec(case, gpu).way.name == way
    drawn = Drawn.of(kernel, orders, draw)

    def neighbours() -> list[Kernel]:
        return [device_kernel(c, gpu)[0] for c in chunk(case, beside or (case,))]

    compare(case, kernel, drawn.operands, drawn.result(compiled(kernel, gpu, neighbours)))
