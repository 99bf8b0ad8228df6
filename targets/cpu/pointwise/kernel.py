"""Fused pointwise kernels: a group of ops over one shape in one pass over memory.

Loads, expressions in f32 in registers, each result rounded to its own format as if it had been
stored, stores of what others read, and the reductions that end in the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....compiler.ir import Op, Value
from ...plan.kernel import Kernel, slots_of
from ...plan.layout import Order
from ...tir.pointwise.group import group_spec
from ...tir.pointwise.space import PointwiseSpec
from ..info import CpuInfo

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


@dataclass(frozen=True, eq=False)
class Pointwise(PointwiseSpec):
    """The spec with what builds it."""

    def build(self) -> PrimFunc:
        """The private function, see ``KernelSpec``."""
        # Imported here: a plan can be made and printed without TVM.
        from .build import build

        return build(self)


def pointwise_kernel(
    ops: tuple[Op, ...], outputs: tuple[Value, ...], orders: Mapping[Value, Order], cpu: CpuInfo
) -> Kernel:
    """The kernel of a group of pointwise ops and tails, see ``group_spec``."""
    lanes = 16 if cpu.vector_bytes == 64 else 8
    spec, inputs = group_spec(Pointwise, ops, outputs, orders, lanes)
    return Kernel(spec, ops, slots_of(inputs), slots_of(outputs))
