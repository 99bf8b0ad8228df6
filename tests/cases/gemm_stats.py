"""A GEMM case and the statistics of its result, apart and in one kernel."""

from __future__ import annotations

from dataclasses import dataclass

from quatrain.compiler.formats import F32
from quatrain.compiler.ir import Op, Value
from quatrain.compiler.types import TensorType
from quatrain.targets.cpu.info import detect
from quatrain.targets.cuda.gemm.stats import with_stats
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.plan import PlannedKernel

from ..cuda.emulated import EmulatedGpu
from .gemm_case import Case
from .machine import Cpu

HERE = Cpu(detect())


@dataclass(frozen=True, eq=False)
class GemmAndMoments:
    """Kernels of a GPU, the statistics' on this CPU, the order of every value."""

    gemm: Kernel
    stats: Kernel
    cpu: Kernel
    orders: dict[Value, Order]

    @classmethod
    def of(cls, case: Case, gpu: EmulatedGpu, only: slice = slice(None)) -> GemmAndMoments:
        """Of mean and variance, or ``only`` of one."""
        ops, orders = case.ordered()
        y = ops[-1].result
        moments = tuple(Value(n, TensorType(y.type.shape[1:2], F32)) for n in ("mean", "var"))
        orders |= dict.fromkeys(moments, Order.ROWS)
        stats = Group((Op("batch_stats", (y,), moments),), moments[only], "forward")
        gemm = gpu.kernel(Group(ops, (y,), "forward"), orders)
        return cls(gemm, gpu.kernel(stats, orders), HERE.kernel(stats, orders), orders)

    @property
    def planned(self) -> list[Kernel]:
        """Both in a plan: one where a kernel makes them."""
        apart = [PlannedKernel(kernel, "forward") for kernel in (self.gemm, self.stats)]
        return [p.kernel for p in with_stats(apart)]
