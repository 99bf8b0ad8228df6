"""The ``cpu`` target: TVM kernels on packed storage for the CPU it runs on."""

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
from ..plan.pool import HostMemory, TargetMemory
from ..plan.state import StateLayout, Unapplied, state_layout
from ..plan.stored import MachineCode
from ..registry import BindOptions
from .choose import gemm_kernel, matrices_kernel
from .executable import CpuExecutable
from .info import CpuInfo, check_runs_here, detect, named
from .module import load_step
from .pointwise.kernel import pointwise_kernel
from .single import single_kernel
from .threads import all_threads


def plan(program: Program, state: StateLayout, options: BindOptions) -> Plan:
    """Choose kernels for the CPU of this machine, or for ``options.mcpu``."""
    return plan_cpu(program, state, cpu_of(options))


def memory(options: BindOptions) -> HostMemory:
    """Of this process."""
    return HostMemory()


def bind(
    program: Program, state: StateLayout, options: BindOptions, memory: TargetMemory
) -> CpuExecutable:
    """Plan and compile ``program``; TargetError for a CPU whose units this machine lacks."""
    cpu = cpu_of(options)
    if options.mcpu:
        check_runs_here(cpu)
    made = plan_cpu(program, state, cpu)
    step = load_step(made, state.bytes, cpu, options.cache_dir)
    assert isinstance(memory, HostMemory)
    return CpuExecutable(made, step, memory, options.threads or all_threads())


def bind_halves(program: Program, options: BindOptions, memory: TargetMemory) -> Halved:
    """Plan and compile ``program`` as two halves."""
    cpu = cpu_of(options)
    if options.mcpu:
        check_runs_here(cpu)
    state, threads = state_layout(program), options.threads or all_threads()
    made = plan_cpu(program, state, cpu)
    assert isinstance(memory, HostMemory)
    first, second = (
        CpuExecutable(p, load_step(p, state.bytes, cpu, options.cache_dir), memory, threads)
        for p in half_plans(made)
    )
    return Halved(made, first, second, memory)


def build(plans: Sequence[Plan], kept: Unapplied, options: BindOptions) -> MachineCode:
    """All kernels of ``plans`` as libraries; of this machine's CPU where none is named."""
    # Here, as it loads TVM's libraries.
    from .ahead import build

    return build(plans, cpu_of(options), here=not options.mcpu)


def cpu_of(options: BindOptions) -> CpuInfo:
    """This machine's CPU, or the one that is named."""
    return named(options.mcpu) if options.mcpu else detect()


def plan_cpu(program: Program, state: StateLayout, cpu: CpuInfo) -> Plan:
    """The plan of a lowered program for one CPU; see ``make_plan``."""
    return make_plan(program, state, CpuKernels(cpu))


@dataclass(frozen=True, slots=True)
class CpuKernels:
    """See ``Kernels``."""

    cpu: CpuInfo

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """The GEMM with its bias, the fused pointwise ops, or the op that stays alone."""
        first = group.ops[0]
        if first.kind in MATRICES:
            return matrices_kernel(first, self.cpu)
        if first.kind in GEMMS:
            return gemm_kernel(group.ops, orders, self.cpu)
        if has(first, Trait.POINTWISE) or has(first, Trait.TAIL):
            return pointwise_kernel(group.ops, group.outputs, orders, self.cpu)
        return single_kernel(first, orders, self.cpu)

    def arranged(
        self, planned: Sequence[PlannedKernel], known: KnownPlaces
    ) -> Sequence[PlannedKernel]:
        """As they are: calls of one function cost next to nothing."""
        return planned
