"""SAWB: quantize the weights with a clip computed from their first two absolute moments.

"Accurate and Efficient 2-bit Quantized Neural Networks" (Choi et al., SysML 2019), section 3; the
coefficients are those of IBM's fms-model-optimizer.

    clip = c1 sqrt(mean w^2) - c2 mean |w|        wq = quantize(w, clip)

    bits  grid=15: with a zero       code   c1       c2      grid=16: without    code  c1      c2
    2     3 levels                   103    2.6      1.71    4 levels            2     3.12    2.064
    3     not published                                      8 levels            3     7.509   6.892
    4     15 levels                  403    12.035   12.03   16 levels           4     12.68   12.80
    5     not published                                      32 levels           5     17.74   18.64
    7     127 levels                 703    28.24    30.81   not published
    8     255 levels                 803    31.76    35.04   256 levels          8     31.76   35.04

``coefficients=luq`` takes those that the code of "Accurate Neural Training with 4-bit Matrix
Multiplications at Standard Formats" (Chmiel et al., ICLR 2023) has for 4 bits, 12.1 and 12.2. That
code has 17 integers, -8 .. 8 in steps of clip / 8: ``grid=17``.

    gradient      dw
    sawb+         passes everywhere
    sawb          is 0 where |w| > clip
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.formats import F32, INT5_17, INTS, MIDRISE, UINT2, Format
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import READS_WEIGHT, WEIGHT_GRADS
from ..compiler.types import Scale, TensorType
from .parts.names import part
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import EXEMPT, layers, quantized

Coefficients = tuple[float, float]
COEFFICIENTS: dict[Format, Coefficients] = {
    MIDRISE[2]: (3.12, 2.064),
    MIDRISE[3]: (7.509, 6.892),
    MIDRISE[4]: (12.68, 12.80),
    MIDRISE[5]: (17.74, 18.64),
    MIDRISE[8]: (31.76, 35.04),
    INTS[2]: (2.6, 1.71),
    INTS[4]: (12.035, 12.03),
    INTS[7]: (28.24, 30.81),
    INTS[8]: (31.76, 35.04),
}
LUQ: Coefficients = (12.1, 12.2)


@placed(makes=Makes.CODES)
def sawb_weights(
    program: Program,
    *,
    bits: Literal[2, 3, 4, 5, 7, 8] = 4,
    grid: Literal[15, 16, 17] = 15,
    coefficients: Literal["sawb", "luq"] = "sawb",
    sawb_gradient: Literal["sawb+", "sawb"] = "sawb+",
    exempt: str = EXEMPT,
) -> Program:
    """Let the forward and the dX product of each layer read the weight in ``bits`` bits.

    ``grid`` speaks of 4 bits: 15 is the grid with a zero at any width, 16 the one without; 17 goes
    with ``coefficients=luq`` and is stored in 8 bits.
    RecipeError where there are no published coefficients. Layers that ``exempt`` selects stay.
    """
    format_ = _format(bits, grid)
    pair = pair_of(format_, coefficients)
    chosen, taken = quantized(program, exempt), program.names()
    masters = {name: op.inputs[1] for name, op in layers(program).items() if name in chosen}
    codes: dict[Value, tuple[Op, Op]] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.origin not in chosen:
            return None
        if op.kind in WEIGHT_GRADS and sawb_gradient == "sawb":
            made = codes.get(masters[op.origin])
            return _masked(op, made[0], taken) if made else None
        if op.kind not in READS_WEIGHT:
            return None
        other, w = op.inputs
        if not w.type.format.is_carrier:
            return None
        ahead: tuple[Op, ...] = ()
        if w not in codes:
            ahead = codes[w] = _quantize(op, w, format_, pair, taken)
        return (*ahead, replace(op, inputs=(other, codes[w][1].result)))

    return program.rewrite(rule, by="sawb_weights")


def _format(bits: int, grid: int) -> Format:
    if grid == 17:
        require(bits == 4, f"grid=17 is -8 .. 8, no grid of {bits} bits; set bits=4")
        return INT5_17
    known = INTS if grid == 15 else MIDRISE
    if bits in known and known[bits] in COEFFICIENTS:
        return known[bits]
    grids = ("with", "without") if grid == 15 else ("without", "with")
    raise RecipeError(
        f"SAWB has no published coefficients for {bits} bits {grids[0]} a zero (grid={grid}); "
        f"take grid={31 - grid}, the grid {grids[1]} one"
    )


def pair_of(format_: Format, coefficients: str) -> Coefficients:
    """c1 and c2 of a grid; RecipeError where ``luq`` has none for it."""
    if coefficients == "sawb" and format_ is INT5_17:
        raise RecipeError("grid=17 is that of LUQ's authors; set coefficients=luq")
    if coefficients == "luq" and format_ not in (INTS[4], INT5_17):
        raise RecipeError(
            f"coefficients=luq are those of 4 bits with a zero, not of {format_}; set "
            "coefficients=sawb"
        )
    return LUQ if coefficients == "luq" else COEFFICIENTS[format_]


def _quantize(
    op: Op, w: Value, format_: Format, pair: Coefficients, taken: set[str]
) -> tuple[Op, Op]:
    clip = Value(unused(part(op.origin, "wclip"), taken), TensorType((), F32))
    wq = Value(
        unused(part(op.origin, "wq"), taken), TensorType(w.type.shape, format_, Scale.TENSOR)
    )
    c1, c2 = pair
    return (
        Op("sawb_clip", (w,), (clip,), attrs(c1=c1, c2=c2), op.origin),
        Op("quantize", (w, clip), (wq,), origin=op.origin),
    )


def _masked(op: Op, clip: Op, taken: set[str]) -> tuple[Op, ...]:
    """The weight gradient with zeros where the weight is clipped; readers keep the old name."""
    (w,), dw = clip.inputs, op.result
    raw = Value(unused(f"{dw.name}q", taken), dw.type)
    region = Value(unused(part(op.origin, "wregion"), taken), TensorType(w.type.shape, UINT2))
    # A clip that is computed is not trained: nothing reads its gradient.
    unread = Value(unused(part(op.origin, "dwclip"), taken), TensorType((), F32))
    signed = attrs(signed=True)
    return (
        replace(op, results=(raw,)),
        Op("clip_region", (w, clip.result), (region,), signed, op.origin),
        Op("pact_grad", (raw, region), (Value(dw.name, dw.type), unread), signed, op.origin),
    )
