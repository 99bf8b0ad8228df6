"""Kernels of single ops: what neither multiplies matrices nor works point by point.

``BUILDERS`` has one function per op kind, gathered from the files of each family; it appends the
kernel's statements to ``Frame.code``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..compiler.ir import Attr, Op, Value
from .cpu_info import CpuInfo
from .kernel import Kernel, slots_of
from .layout import Layout, Order
from .tvm_loss import LOSS
from .tvm_pool import POOL
from .tvm_scalar import SCALAR
from .tvm_shape import SHAPE
from .tvm_single_frame import Builder, Frame
from .tvm_update import UPDATE

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

BUILDERS: dict[str, Builder] = {**SCALAR, **LOSS, **POOL, **SHAPE, **UPDATE}
SINGLE = frozenset(BUILDERS)


@dataclass(frozen=True, slots=True)
class SingleSpec:
    """A single op: kind, attributes, and how each operand and result lies in memory."""

    kind: str
    attrs: tuple[tuple[str, Attr], ...]
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    lanes: int

    @property
    def name(self) -> str:
        """The op and the shape of its first result."""
        shape = "x".join(map(str, self.outputs[0].type.shape)) or "scalar"
        return f"{self.kind}_{shape}"

    def build(self) -> PrimFunc:
        """The private function, see ``KernelSpec``."""
        frame = Frame(dict(self.attrs), self.inputs, self.outputs, self.lanes)
        return frame.build(BUILDERS[self.kind])


def single_kernel(op: Op, orders: Mapping[Value, Order], cpu: CpuInfo) -> Kernel:
    """The kernel of an op of ``SINGLE``."""
    spec = SingleSpec(
        op.kind,
        tuple(sorted(op.attrs.items())),
        tuple(Layout(v.type, orders[v]) for v in op.inputs),
        tuple(Layout(v.type, orders[v]) for v in op.results),
        cpu.lanes,
    )
    return Kernel(spec, (op,), slots_of(op.inputs), slots_of(op.results))
