"""The ``cpu`` target: TVM kernels on packed storage for the CPU it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...compiler.ir import Program, Value
from ...compiler.ir.ops import GEMMS, PRODUCTS, Trait, has
from ..plan.choose import make_plan
from ..plan.fuse import Group
from ..plan.kernel import Kernel, Slot
from ..plan.layout import Order
from ..plan.plan import Plan
from ..plan.pool import Block, HostMemory, Memory
from ..plan.state import StateLayout
from ..registry import BindOptions
from .choose import gemm_kernel, matmul_kernel
from .info import CpuInfo, check_runs_here, detect, named
from .module import CompiledStep, load_step
from .pointwise.kernel import pointwise_kernel
from .single import single_kernel
from .threads import all_threads, crew


class CpuExecutable:
    """Runs the compiled step on up to ``threads`` threads, in the arena of a memory."""

    def __init__(self, plan: Plan, step: CompiledStep, memory: HostMemory, threads: int) -> None:
        self.program, self.plan, self._step = plan.program, plan, step
        self._memory, self._threads = memory, threads

    def run(self, inputs: Sequence[object], old: Block, new: Block) -> tuple[np.ndarray, ...]:
        """See ``Executable.run``."""
        crew(self._threads, self._step.loop).look()
        arena = self._memory.arena(self._step.arena)
        self._step(arena, old, new, *inputs)
        blocks = {"arena": arena, "old": old, "new": new}
        return tuple(self._output(v, blocks, inputs) for v in self.program.outputs)

    def _output(
        self, value: Value, blocks: Mapping[str, Block], inputs: Sequence[object]
    ) -> np.ndarray:
        """A copy of an output, which may be a value of any block, an input or a view of one."""
        place = self.plan.places[Slot(value)]
        if place.where in blocks:
            block = blocks[place.where]
        else:
            names = [v.name for v in self.program.inputs]
            given = np.asarray(inputs[names.index(place.where)])
            block = np.ascontiguousarray(given).reshape(-1).view(np.uint8)
        layout = self.plan.layouts[value]
        raw: np.ndarray = block[place.offset : place.offset + layout.bytes].copy()
        return raw.view(layout.dtype).reshape(layout.physical_shape)


def plan(program: Program, state: StateLayout, options: BindOptions) -> Plan:
    """Choose kernels for the CPU of this machine, or for ``options.mcpu``."""
    return plan_cpu(program, state, _cpu(options))


def memory(options: BindOptions) -> HostMemory:
    """Of this process."""
    return HostMemory()


def bind(
    program: Program, state: StateLayout, options: BindOptions, memory: Memory
) -> CpuExecutable:
    """Plan and compile ``program``; TargetError for a CPU whose units this machine lacks."""
    cpu = _cpu(options)
    if options.mcpu:
        check_runs_here(cpu)
    made = plan_cpu(program, state, cpu)
    step = load_step(made, state.bytes, cpu, options.cache_dir)
    assert isinstance(memory, HostMemory)
    return CpuExecutable(made, step, memory, options.threads or all_threads())


def _cpu(options: BindOptions) -> CpuInfo:
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
        if first.kind in GEMMS:
            return gemm_kernel(group.ops, orders, self.cpu)
        if first.kind in PRODUCTS:
            return matmul_kernel(first, self.cpu)
        if has(first, Trait.POINTWISE) or has(first, Trait.TAIL):
            return pointwise_kernel(group.ops, group.outputs, orders, self.cpu)
        return single_kernel(first, orders, self.cpu)
