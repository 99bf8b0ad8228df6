"""Two-phase rounding: round each gradient twice to radix-4 FP4, once for dX and once for dW.

"Ultra-Low Precision 4-bit Training of Deep Neural Networks" (Sun et al., NeurIPS 2020), section 3.

    product   phase   levels                           rounding error
    dX        even    0, 4^-3, 4^-2 .. 4^3             up where the other is down, so that both
    dW        odd     twice the even ones              cancel in the statistics of a layer

Its reviewers asked about other radices and about a fifth bit in the place of the second phase:

    option     even              odd                 levels of both together
    radix=16   4 16^k, to 64     four times these    those of radix 4
    radix=2    1, 2 .. 64        none: the middle of two levels in ratio is no power of two
    radix=8    8^-4 .. 8^2       none
    log5       2^-8 .. 2^6, 5 bits [1,4,0], for both products

A value x between the neighbours L and rL of radix r goes up where x >= rL / up:

    midpoint      up             turns at        radix 4   least error relative to
    arithmetic    2r / (1 + r)   (1 + r)/2 L     2.5 L     x (round to nearest)
    harmonic      (1 + r) / 2    2r/(1 + r) L    1.6 L     the rounded value
    a number m    r / m          m L
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import (
    FP4_EVEN,
    FP4_ODD,
    FP4_ODD_LOW,
    FP4_R2,
    FP4_R8,
    FP4_R16_EVEN,
    FP4_R16_ODD,
    FP4_R16_ODD_LOW,
    FP5_140,
    Format,
)
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import GRADIENT_PRODUCTS, INPUT_GRADS
from ..compiler.types import Scale, TensorType
from .hybrid_fp8 import is_scaled
from .parts.draws import seed_and_step, with_seed
from .parts.names import part
from .parts.options import require
from .parts.order import Makes, placed

# Even, odd above, odd below; a radix without odd phases has one.
PHASES: dict[int, tuple[Format, ...]] = {
    2: (FP4_R2,),
    4: (FP4_EVEN, FP4_ODD, FP4_ODD_LOW),
    8: (FP4_R8,),
    16: (FP4_R16_EVEN, FP4_R16_ODD, FP4_R16_ODD_LOW),
}


@placed(makes=Makes.CODES, after=("grad_scale",))
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
    radix: Literal[2, 4, 8, 16] = 4,
    log5: bool = False,
) -> Program:
    """Round every scaled gradient that is still a carrier: even for dX, odd for dW.

    ``phase=odd_dx`` swaps them; ``single`` gives both products the phase of dX; ``sr`` rounds
    stochastically; ``odd_shift=-1`` takes odd levels below the even ones; ``log5`` gives both
    products one format of 5 bits. RecipeError for two phases of a radix that has one.
    """
    phases = _phases(radix, odd_shift, log5, single)
    for_dx, for_dw = phases if phase == "even_dx" else reversed(phases)
    formats = {k: for_dx if single or k in INPUT_GRADS else for_dw for k in GRADIENT_PRODUCTS}
    how = attrs(up=_up(midpoint, for_dx.radix), tie=radix4_tie, underflow=radix4_underflow)
    drawn = seed_and_step(program, "sr=true") if sr else ()
    wanted, taken = _wanted(program, formats), program.names()
    rounded: dict[tuple[Value, Format], Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in formats or not is_scaled(op.inputs[0]):
            return None
        g, other = op.inputs
        ahead: list[Op] = []
        # All roundings of a gradient stand together: one pass over it makes them.
        for format_ in wanted.pop(g, ()):
            code = rounded[g, format_] = _code(op.origin, g, format_, taken)
            nearest = Op("round_log", (g,), (code,), how, op.origin)
            ahead.append(_at_random(nearest, drawn, len(rounded)) if drawn else nearest)
        return (*ahead, replace(op, inputs=(rounded[g, formats[op.kind]], other)))

    return with_seed(program.rewrite(rule, by="two_phase_rounding"), drawn, bool(rounded))


def _at_random(op: Op, drawn: tuple[Value, ...], salt: int) -> Op:
    """The rounding ``op`` as a stochastic one."""
    inputs = (*op.inputs, *drawn)
    return replace(op, kind="round_stochastic", inputs=inputs, attrs=attrs(salt=salt))


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


def _phases(radix: int, odd_shift: int, log5: bool, single: bool) -> tuple[Format, Format]:
    """The even and the odd format; twice the same where there is one format only."""
    if log5:
        require(
            radix == 4,
            f"log5=true is a format of radix 2 and 5 bits; radix={radix} speaks of 4 bits, so "
            "leave it at 4",
        )
        return FP5_140, FP5_140
    even, *odd = PHASES[radix]
    require(
        single or bool(odd),
        f"radix={radix} has no odd phase, as the root of {radix} is no power of two; "
        "set single=true, or take radix 4 or 16",
    )
    return even, odd[0 if odd_shift == 1 else 1] if odd else even


def _up(midpoint: str, radix: int) -> float:
    known = {"arithmetic": (1 + radix) / 2, "harmonic": 2 * radix / (1 + radix)}
    try:
        turn = known.get(midpoint) or float(midpoint)
    except ValueError:
        turn = 0.0
    require(
        1 < turn < radix,
        f"midpoint={midpoint} is not arithmetic, harmonic or a number between 1 and {radix}, the "
        "multiple of the lower level at which rounding turns up",
    )
    return radix / turn
