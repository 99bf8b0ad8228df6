"""Two-phase rounding: round each gradient twice to radix-4 FP4, once for dX and once for dW.

"Ultra-Low Precision 4-bit Training of Deep Neural Networks" (Sun et al., NeurIPS 2020), section 3.

    product   phase   levels                           rounding error
    dX        even    0, 4^-3, 4^-2 .. 4^3             up where the other is down, so that both
    dW        odd     twice the even ones              cancel in the statistics of a layer

A value x between the neighbours L and 4L goes up where x >= 4L / up:

    midpoint      up     turns at    least error relative to
    arithmetic    1.6    2.5 L       x (round to nearest)
    harmonic      2.5    1.6 L       the rounded value
    a number m    4/m    m L
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import FP4_EVEN, FP4_ODD, FP4_ODD_LOW, Format
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.types import Scale, TensorType
from .affine import noise, with_seed
from .grad_scale import GRADIENT_PRODUCTS
from .hybrid_fp8 import is_scaled
from .names import part
from .options import require

MIDPOINTS = {"arithmetic": 2.5, "harmonic": 1.6}


def two_phase_rounding(
    program: Program,
    *,
    phase: Literal["even_dx", "odd_dx"] = "even_dx",
    single: bool = False,
    sr: bool = False,
    midpoint: str = "arithmetic",
    radix4_tie: Literal["up", "down"] = "up",
    radix4_underflow: Literal["uniform", "nearest"] = "uniform",
    odd_shift: Literal[1, -1] = 1,
) -> Program:
    """Round every scaled gradient that is still a carrier: even for dX, odd for dW.

    ``phase=odd_dx`` swaps them; ``single`` gives both products the phase of dX; ``sr`` rounds
    stochastically; ``odd_shift=-1`` takes half of the even levels as odd ones.
    """
    odd = FP4_ODD if odd_shift == 1 else FP4_ODD_LOW
    for_dx, for_dw = (FP4_EVEN, odd) if phase == "even_dx" else (odd, FP4_EVEN)
    for_dw = for_dx if single else for_dw
    formats = {kind: for_dx if "input" in kind else for_dw for kind in GRADIENT_PRODUCTS}
    how = attrs(up=_up(midpoint), tie=radix4_tie, underflow=radix4_underflow)
    taken = program.names()
    drawn = noise(program, "sr=true") if sr else ()
    kind = "round_stochastic" if drawn else "round_log"
    wanted = _wanted(program, formats)
    rounded: dict[tuple[Value, Format], Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in formats or not is_scaled(op.inputs[0]):
            return None
        g, other = op.inputs
        ahead: list[Op] = []
        # All roundings of a gradient stand together: one pass over it makes them.
        for format_ in wanted.pop(g, ()):
            code = rounded[g, format_] = _code(op.origin, g, format_, taken)
            options = attrs(salt=len(rounded)) if drawn else how
            ahead.append(Op(kind, (g, *drawn), (code,), options, op.origin))
        return (*ahead, replace(op, inputs=(rounded[g, formats[op.kind]], other)))

    out = program.rewrite(rule, by="two_phase_rounding")
    return with_seed(out, drawn, bool(rounded))


def _wanted(program: Program, formats: dict[str, Format]) -> dict[Value, list[Format]]:
    """The formats that the products of each scaled gradient ask for, even ones first."""
    found: dict[Value, set[Format]] = {}
    for _, op in program.ops():
        if op.kind in formats and is_scaled(op.inputs[0]):
            found.setdefault(op.inputs[0], set()).add(formats[op.kind])
    return {g: sorted(wanted, key=lambda f: f.name) for g, wanted in found.items()}


def _code(layer: str, g: Value, format_: Format, taken: set[str]) -> Value:
    name = unused(part(layer, f"dys.{format_.name.removeprefix('fp4.')}"), taken)
    return Value(name, TensorType(g.type.shape, format_, Scale.POW2))


def _up(midpoint: str) -> float:
    try:
        turn = MIDPOINTS.get(midpoint) or float(midpoint)
    except ValueError:
        turn = 0.0
    require(
        1 < turn < 4,
        f"midpoint={midpoint} is not arithmetic, harmonic or a number between 1 and 4, the "
        "multiple of the lower level at which rounding turns up",
    )
    return 4 / turn
