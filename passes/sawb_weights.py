"""SAWB: quantize the weights with a clip computed from their first two absolute moments.

"Accurate and Efficient 2-bit Quantized Neural Networks" (Choi et al., SysML 2019), section 3; the
coefficients are those of IBM's fms-model-optimizer.

    clip = c1 sqrt(mean w^2) - c2 mean |w|        wq = quantize(w, clip)        dw passes everywhere

    bits  grid                       levels   c1       c2
    2     zero-aligned               3        2.6      1.71
    4     zero-aligned (grid=15)     15       12.035   12.03
    4     without zero (grid=16)     16       12.68    12.80
    7     zero-aligned               127      28.24    30.81
    8     zero-aligned               255      31.76    35.04
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.formats import F32, INT4_MIDRISE, INTS, Format
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ops import FORWARD_GEMMS, INPUT_GRADS
from ..compiler.types import Scale, TensorType
from .names import part
from .select import EXEMPT, quantized

COEFFICIENTS: dict[Format, tuple[float, float]] = {
    INTS[2]: (2.6, 1.71),
    INTS[4]: (12.035, 12.03),
    INT4_MIDRISE: (12.68, 12.80),
    INTS[7]: (28.24, 30.81),
    INTS[8]: (31.76, 35.04),
}
READS_WEIGHT = FORWARD_GEMMS | INPUT_GRADS


def sawb_weights(
    program: Program,
    *,
    bits: Literal[2, 4, 7, 8] = 4,
    grid: Literal[15, 16] = 15,
    exempt: str = EXEMPT,
) -> Program:
    """Let the forward and the dX product of each layer read the weight in ``bits`` bits.

    ``grid=16`` takes the 4-bit grid without zero. Layers that ``exempt`` selects stay as they are.
    """
    if grid == 16 and bits != 4:
        raise RecipeError(f"grid=16 is a grid of 4 bits, not of {bits}; leave it at 15")
    format_ = INT4_MIDRISE if grid == 16 else INTS[bits]
    chosen, taken = quantized(program, exempt), program.names()
    codes: dict[Value, Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in READS_WEIGHT or op.origin not in chosen:
            return None
        other, w = op.inputs
        if not w.type.format.is_carrier:
            return None
        ahead: tuple[Op, ...] = ()
        if w not in codes:
            ahead = _quantize(op, w, format_, taken)
            codes[w] = ahead[-1].result
        return (*ahead, replace(op, inputs=(other, codes[w])))

    return program.rewrite(rule, by="sawb_weights")


def _quantize(op: Op, w: Value, format_: Format, taken: set[str]) -> tuple[Op, Op]:
    c1, c2 = COEFFICIENTS[format_]
    clip = Value(unused(part(op.origin, "wclip"), taken), TensorType((), F32))
    wq = Value(
        unused(part(op.origin, "wq"), taken), TensorType(w.type.shape, format_, Scale.TENSOR)
    )
    return (
        Op("sawb_clip", (w,), (clip,), attrs(c1=c1, c2=c2), op.origin),
        Op("quantize", (w, clip), (wq,), origin=op.origin),
    )
