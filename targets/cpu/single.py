"""Kernels of single ops: all that neither multiplies matrices nor works element by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...compiler.ir import Op, Value
from ..plan.kernel import Kernel, slots_of
from ..plan.layout import Order
from ..tir.single.spec import Single
from .info import CpuInfo

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


@dataclass(frozen=True, eq=False)
class SingleSpec(Single):
    """The spec with what builds it."""

    @property
    def name(self) -> str:
        """The kind of the op."""
        return self.kind

    def build(self) -> PrimFunc:
        """The private function, see ``KernelSpec``."""
        # Imported here: a plan can be made and printed without TVM.
        from .single_build import build

        return build(self)


def single_kernel(op: Op, orders: Mapping[Value, Order], cpu: CpuInfo) -> Kernel:
    """The kernel of one op of ``BUILDERS``."""
    values = (*op.inputs, *op.results)
    spec = SingleSpec(
        kind=op.kind,
        attrs=tuple(sorted(op.attrs.items())),
        types=tuple(v.type for v in values),
        orders=tuple(orders[v] for v in values),
        operands=len(op.inputs),
        lanes=16 if cpu.vector_bytes == 64 else 8,
    )
    return Kernel(spec, (op,), slots_of(op.inputs), slots_of(op.results))
