"""Kernels of single ops: all that neither multiplies matrices nor works element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...compiler.ir import Op, Value
from ..plan.kernel import Kernel, slots_of
from ..plan.layout import Order
from ..tir.expr import Code, Expr
from ..tir.single.bits import BITS
from ..tir.single.gather import GATHER
from ..tir.single.grid import Buffers, Single
from ..tir.single.loss import LOSS
from ..tir.single.pool import POOL
from ..tir.single.pool_adaptive import ADAPTIVE
from ..tir.single.scalar import SCALAR
from ..tir.single.shape import SHAPE
from ..tir.single.squeeze import squeeze_stats
from ..tir.single.sums import SUMS
from ..tir.single.update import UPDATE
from .dialect import function
from .info import CpuInfo

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

BUILDERS: dict[str, Callable[[Buffers, Single], None]] = {
    **SHAPE,
    **GATHER,
    **POOL,
    **ADAPTIVE,
    **SUMS,
    "squeeze_stats": squeeze_stats,
    **LOSS,
    **UPDATE,
    **SCALAR,
    **BITS,
}
SINGLE = frozenset(BUILDERS)


@dataclass(frozen=True)
class SingleSpec(Single):
    """The spec with what builds it."""

    @property
    def name(self) -> str:
        """The kind of the op."""
        return self.kind

    def build(self) -> PrimFunc:
        """The private function, see ``KernelSpec``."""
        return _build(self)


def single_kernel(op: Op, orders: Mapping[Value, Order], cpu: CpuInfo) -> Kernel:
    """The kernel of one op of ``SINGLE``."""
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


def _build(spec: Single) -> PrimFunc:
    parameters: list[tuple[str, int]] = []
    places: list[tuple[int, bool]] = []
    for i, layout in enumerate(spec.layouts):
        places.append((i, False))
        parameters.append((layout.dtype, max(1, layout.rows * layout.cell)))
        if layout.scales:
            places.append((i, True))
            parameters.append(("float32", layout.scales))

    def body(code: Code, given: list[Expr]) -> None:
        table = dict(zip(places, given, strict=True))
        n = spec.operands
        data = [table[i, False] for i in range(len(spec.layouts))]
        scales = {i: b for (i, scale), b in table.items() if scale}
        buffers = Buffers(
            code,
            data[:n],
            data[n:],
            {i: b for i, b in scales.items() if i < n},
            {i - n: b for i, b in scales.items() if i >= n},
        )
        BUILDERS[spec.kind](buffers, spec)

    return function(parameters, body)
