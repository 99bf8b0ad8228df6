"""Kernels of single ops: all that neither multiplies matrices nor works element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..compiler.ir import Op, Value
from .cpu_info import CpuInfo
from .kernel import Kernel, slots_of
from .layout import Order
from .tvm_bits import BITS
from .tvm_expr import Code, Expr, function
from .tvm_gather import GATHER
from .tvm_grid import Buffers, Single
from .tvm_loss import LOSS
from .tvm_pool import POOL
from .tvm_pool_adaptive import ADAPTIVE
from .tvm_scalar import SCALAR
from .tvm_shape import SHAPE
from .tvm_squeeze import squeeze_stats
from .tvm_sums import SUMS
from .tvm_update import UPDATE

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
