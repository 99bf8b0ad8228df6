"""Dynamic fixed point: integers with one exponent for each tensor, for every operand of a layer.

"Mixed Precision Training of Convolutional Neural Networks using Integer Operations" (Das et al.,
ICLR 2018), section 3.

    Es = floor(log2 max |x|) - (P - 2)      code = rint(x / 2^Es), within +-(2^(P - 1) - 1)

    operand         codes (P = 16)   exponent
    weight, dY      int16            anew in every step
    activation      int16            anew in every step; in evaluation that of a running max |x|
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import INT16, INTS
from ..compiler.ir import Op, Program, Region, Value
from ..compiler.ir.ops import GEMMS
from ..compiler.types import Scale
from .parts.data import roles_of
from .parts.largest import LargestMagnitudes
from .parts.order import Makes, placed
from .parts.select import Attention, quantized
from .parts.shift import Shifts, below


@placed(makes=Makes.CODES)
def dynamic_fixed_point(
    program: Program,
    *,
    bits: Literal[4, 5, 6, 7, 8, 16] = 16,
    exempt: str = "none",
    attention: Attention = "keep",
) -> Program:
    """Let all three products of each layer read integers of ``bits`` bits and shared exponents.

    A tensor is rounded once, to nearest even, for all its readers; gradients pass the rounding.
    """
    format_ = INT16 if bits == 16 else INTS[bits]
    top = below(2.0 ** (bits - 1))
    chosen, shifts = quantized(program, exempt, attention), Shifts(program.names())
    largest, data = LargestMagnitudes(program, shifts.taken), _of_inputs(program)
    codes: dict[Value, Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in GEMMS or op.origin not in chosen:
            return None
        ahead: list[Op] = []
        for v, name in zip(op.inputs, roles_of(op), strict=True):
            plain = v.type.format.is_carrier and v.type.scale is Scale.NONE
            if plain and v not in codes:
                limit: Value | None = None
                if region.name == "forward" and v.name in data:
                    ops, limit = largest.of(v, op.origin, name)
                    ahead += ops
                ops, codes[v] = shifts.rounded(op.origin, v, name, top, format_, limit)
                ahead += ops
        return (*ahead, replace(op, inputs=tuple(codes.get(v, v) for v in op.inputs)))

    return largest.carried(program.rewrite(rule, by="dynamic_fixed_point"))


def _of_inputs(program: Program) -> set[str]:
    """Names of the forward values that follow from the batch: data, no weights."""
    found = {v.name for v in program.inputs}
    for op in program.region("forward").ops:
        if any(v.name in found for v in op.inputs):
            found.update(v.name for v in op.results)
    return found
