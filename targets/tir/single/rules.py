"""The rules of ops that are no fused group, by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..expr import Expr
from .bits import BITS
from .gather import GATHER
from .loop import LOOP, elements
from .loops import Buffers, Loops
from .loss import LOSS
from .order import ORDER
from .pool import POOL
from .pool_adaptive import ADAPTIVE
from .rows import ROWS
from .scalar import SCALAR
from .shape import SHAPE
from .spec import Single
from .squeeze import squeeze_stats
from .sums import SUMS
from .update import UPDATE
from .whole import WHOLE

# All but embedding_grad and exponents, which depend on how threads meet.
RULES: dict[str, Callable[[Buffers, Single], None]] = {
    **SHAPE,
    **GATHER,
    **ROWS,
    **ORDER,
    **WHOLE,
    **POOL,
    **ADAPTIVE,
    **SUMS,
    "squeeze_stats": squeeze_stats,
    **LOOP,
    **LOSS,
    **UPDATE,
    **SCALAR,
    **BITS,
}


def parameters(spec: Single) -> dict[tuple[int, bool], tuple[str, int]]:
    """Type and elements of each buffer, by the number of its value and whether it is a scale."""
    made: dict[tuple[int, bool], tuple[str, int]] = {}
    apart = elements(spec)
    for i, layout in enumerate(spec.layouts):
        made[i, False] = (layout.dtype, apart.get(i, max(1, layout.rows * layout.cell)))
        if layout.scales:
            made[i, True] = ("float32", layout.scales)
    return made


def buffers(loops: Loops, spec: Single, given: Sequence[Expr]) -> Buffers:
    """The buffers of ``parameters``, in their order, as rules take them."""
    table = dict(zip(parameters(spec), given, strict=True))
    n = spec.operands
    data = [table[i, False] for i in range(len(spec.layouts))]
    scales = {i: b for (i, scale), b in table.items() if scale}
    return Buffers(
        loops,
        data[:n],
        data[n:],
        {i: b for i, b in scales.items() if i < n},
        {i - n: b for i, b in scales.items() if i >= n},
    )
