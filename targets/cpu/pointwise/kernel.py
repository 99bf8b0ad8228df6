"""Fused pointwise kernels: a group of ops over one shape in one pass over memory.

Loads, expressions in f32 in registers, each result rounded to its own format as if it had been
stored, stores of what others read, and the reductions that end in the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....compiler.errors import NoKernelError
from ....compiler.ir import Op, Value
from ...plan.kernel import Kernel, slots_of
from ...plan.layout import Order
from ...tir.pointwise.space import Node, PointwiseSpec
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
    """The kernel of a group of pointwise ops and tails, over one shape.

    ``outputs`` are the values to store. Raises NoKernelError for a packed value whose memory
    order differs from that of the group.
    """
    made = {r for op in ops for r in op.results}
    inputs = tuple(dict.fromkeys(v for op in ops for v in op.inputs if v not in made))
    values = tuple(dict.fromkeys(v for op in ops for v in (*op.inputs, *op.results)))
    number = {v: i for i, v in enumerate(values)}
    spec = Pointwise(
        types=tuple(v.type for v in values),
        orders=tuple(orders[v] for v in values),
        nodes=tuple(
            Node(
                op.kind,
                tuple(sorted(op.attrs.items())),
                tuple(number[v] for v in op.inputs),
                tuple(number[v] for v in op.results),
            )
            for op in ops
        ),
        inputs=tuple(number[v] for v in inputs),
        outputs=tuple(number[v] for v in outputs),
        lanes=16 if cpu.vector_bytes == 64 else 8,
    )
    _check(spec, ops, values)
    return Kernel(spec, ops, slots_of(inputs), slots_of(outputs))


def _check(spec: PointwiseSpec, ops: tuple[Op, ...], values: tuple[Value, ...]) -> None:
    for i in spec.whole:
        layout = spec.layout(i)
        if layout.parts > 1 and not spec.space.same_memory(layout):
            raise NoKernelError(
                f"{values[i].name} : {values[i].type} of layer {ops[0].origin!r} is packed along "
                f"another dimension than the ops it is computed with; cpu packs channels last"
            )
