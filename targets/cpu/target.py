"""The ``cpu`` target: TVM kernels on packed storage for the CPU it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.ops import GEMMS
from ..plan.decode import decode_operands
from ..plan.fuse import Group, fuse
from ..plan.kernel import Kernel, Slot
from ..plan.layout import Layout, Order, orders
from ..plan.plan import Plan, PlannedKernel, place_slots
from ..plan.state import StateLayout, aligned_bytes
from ..plan.waive import waive
from ..registry import BindOptions, Block
from .choose import check_gemm, gemm_kernel, matmul_kernel
from .info import CpuInfo, check_runs_here, detect, named
from .module import Step, load_step
from .pointwise.kernel import POINTWISE, TAILS, pointwise_kernel
from .single import single_kernel
from .threads import crew


class CpuExecutable:
    """Runs the compiled step; owns the arena, whose contents outlive no call."""

    def __init__(self, plan: Plan, step: Step) -> None:
        self.program, self.plan, self._step = plan.program, plan, step
        self._arena = aligned_bytes(max(plan.arena, 64))

    def run(self, inputs: Sequence[object], old: Block, new: Block) -> tuple[np.ndarray, ...]:
        """See ``Executable.run``."""
        crew().look()
        self._step(self._arena, old, new, *inputs)
        return tuple(self._output(v, old, new) for v in self.program.outputs)

    def _output(self, value: Value, old: Block, new: Block) -> np.ndarray:
        place = self.plan.places[Slot(value)]
        block = {"arena": self._arena, "old": old, "new": new}[place.where]
        layout = self.plan.layouts[value]
        raw = block[place.offset : place.offset + layout.bytes].copy()
        return raw.view(layout.dtype).reshape(layout.physical_shape)


def plan(program: Program, state: StateLayout, options: BindOptions) -> Plan:
    """Choose kernels for the CPU of this machine, or for ``options.mcpu``."""
    decoded = decode_operands(program)
    return plan_cpu(waive(decoded, check_gemm, options.allow), state, _cpu(options))


def bind(program: Program, state: StateLayout, options: BindOptions) -> CpuExecutable:
    """Plan and compile ``program``; TargetError for a CPU whose units this machine lacks."""
    if options.mcpu:
        check_runs_here(_cpu(options))
    if options.threads is not None:
        crew().limit(options.threads)
    made = plan(program, state, options)
    step = load_step(made, state.bytes, _cpu(options), options.cache_dir)
    crew().loop = step.loop
    return CpuExecutable(made, step)


def _cpu(options: BindOptions) -> CpuInfo:
    return named(options.mcpu) if options.mcpu else detect()


def plan_cpu(program: Program, state: StateLayout, cpu: CpuInfo) -> Plan:
    """Choose a kernel for every op of ``program``, fuse, and give every buffer a place.

    Raises NoKernelError, with op and layer, where no kernel of the asked formats exists.
    """
    order = orders(program)
    bound = {*program.outputs, *(v for _, v in program.next)}
    kernels: list[PlannedKernel] = []
    aliases: dict[Value, Value] = {}
    for group in fuse(program, POINTWISE, TAILS):
        first = group.ops[0]
        if first.kind == "view" and first.result not in bound and _same_bytes(first, order):
            aliases[first.result] = first.inputs[0]
        else:
            kernels.append(PlannedKernel(_kernel(group, order, cpu), group.region))
    return place_slots(program, kernels, order, aliases, state)


def _kernel(group: Group, order: Mapping[Value, Order], cpu: CpuInfo) -> Kernel:
    first = group.ops[0]
    if first.kind in GEMMS:
        return gemm_kernel(group.ops, order, cpu)
    if first.kind == "matmul":
        return matmul_kernel(first, cpu)
    if first.kind in POINTWISE or first.kind in TAILS:
        return pointwise_kernel(group.ops, group.outputs, order, cpu)
    return single_kernel(first, order, cpu)


def _same_bytes(view: Op, order: Mapping[Value, Order]) -> bool:
    """Whether both shapes of a view lie in memory alike, so that it costs nothing."""
    layouts = [Layout(v.type, order[v]) for v in (view.inputs[0], view.result)]
    return all(x.parts == 1 and _row_major(x) for x in layouts)


def _row_major(layout: Layout) -> bool:
    """Whether the memory order is the logical one."""
    shape = layout.type.shape
    trivial = len(shape) < 3 or shape[1] == 1 or all(d == 1 for d in shape[2:])
    return layout.order is Order.ROWS or trivial
