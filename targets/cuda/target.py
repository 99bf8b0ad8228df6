"""The ``cuda`` target: TVM kernels on packed storage for NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...compiler.ir import Program, Value
from ...compiler.ir.ops import GEMMS, Trait, has
from ..gemm.matrices import MATRICES
from ..plan.choose import KnownPlaces, make_plan
from ..plan.fuse import Group
from ..plan.halves import Halved, half_plans
from ..plan.kernel import Kernel
from ..plan.layout import Order
from ..plan.plan import Plan, PlannedKernel
from ..plan.pool import TargetMemory
from ..plan.state import StateLayout, Unapplied, state_layout
from ..plan.stored import MachineCode
from ..registry import BindOptions
from .bundle import bundled
from .driver import Device, load
from .executable import CudaExecutable
from .gemm.kernel import gemm_kernel, matrices_kernel
from .gemm.stats import with_stats
from .gpu import named
from .pointwise.kernel import pointwise_kernel
from .single import single_kernel
from .step_memory import StepMemory


def plan(program: Program, state: StateLayout, options: BindOptions) -> Plan:
    """Choose kernels for ``options.mcpu``, or for the GPU that is there."""
    return plan_cuda(program, state, _arch(options))


def memory(options: BindOptions) -> StepMemory:
    """Of the device of that number; TargetError where there is none."""
    return StepMemory(Device(options.device), _arch(options), options.cache_dir)


def _arch(options: BindOptions) -> str:
    """That of the device, or what a user named; TargetError where kernels are made for no such."""
    return named(options.mcpu).arch if options.mcpu else load().info(options.device).arch


def bind(
    program: Program, state: StateLayout, options: BindOptions, memory: TargetMemory
) -> CudaExecutable:
    """Plan and compile ``program``; TargetError where the device does not run what is made."""
    assert isinstance(memory, StepMemory)
    made = plan_cuda(program, state, memory.arch)
    images = memory.images(planned.kernel.spec for planned in made.kernels)
    return CudaExecutable(made, images, memory)


def bind_halves(program: Program, options: BindOptions, memory: TargetMemory) -> Halved:
    """Plan and compile ``program`` as two halves."""
    assert isinstance(memory, StepMemory)
    made = plan_cuda(program, state_layout(program), memory.arch)
    images = memory.images(planned.kernel.spec for planned in made.kernels)
    first, second = (CudaExecutable(half, images, memory) for half in half_plans(made))
    return Halved(made, first, second, memory)


def build(plans: Sequence[Plan], kept: Unapplied, options: BindOptions) -> MachineCode:
    """All kernels of ``plans`` and of what settles a step, for the GPU named or the one here."""
    # Here, as it loads TVM's libraries.
    from .ahead import build

    return build(plans, kept, _arch(options))


def plan_cuda(program: Program, state: StateLayout, arch: str) -> Plan:
    """The plan of a lowered program for one architecture; see ``make_plan``."""
    return make_plan(program, state, CudaKernels(arch))


@dataclass(frozen=True, slots=True)
class CudaKernels:
    """See ``Kernels``."""

    arch: str

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """The GEMM with its bias, the fused pointwise ops, or the op that stays alone."""
        first = group.ops[0]
        if first.kind in MATRICES:
            return matrices_kernel(first, self.arch)
        if first.kind in GEMMS:
            return gemm_kernel(group.ops, orders, self.arch)
        if has(first, Trait.POINTWISE) or has(first, Trait.TAIL):
            return pointwise_kernel(group.ops, group.outputs, orders)
        return single_kernel(first, orders)

    def arranged(self, planned: Sequence[PlannedKernel], known: KnownPlaces) -> list[PlannedKernel]:
        """Statistics with the GEMMs that leave them, small kernels in bundles."""
        return bundled(with_stats(planned), known)
