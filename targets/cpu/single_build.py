"""The kernel of one op that is no fused group: what builds it, by kind."""

from __future__ import annotations

from collections.abc import Callable

from tvm.tirx import PrimFunc

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


def build(spec: Single) -> PrimFunc:
    """The private function, see ``KernelSpec``."""
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
