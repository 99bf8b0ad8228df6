"""Integer gradients: dY to evenly spaced levels up to its largest size, unbiased.

What papers on 4-bit training hold their own formats against, such as "Accurate Neural Training with
4-bit Matrix Multiplications at Standard Formats" (Chmiel et al., ICLR 2023), figure 2.

    unit = max |dY| / (2^(b-1) - 1)      for the tensor, of this step
    dYq  = dY / unit                     to a neighbour at random, linear in dY: the mean is dY
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import F32, INTS
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.draws import seed_and_step, with_seed
from .parts.gradients import plain_gradient
from .parts.names import part, salt_of
from .parts.order import Makes, placed
from .parts.select import EXEMPT, Attention, quantized


@placed(makes=Makes.CODES)
def integer_gradients(
    program: Program,
    *,
    gradient_bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4,
    gradient_rounding: Literal["stochastic", "nearest"] = "stochastic",
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Let both gradient products of each layer read dY in ``gradient_bits`` bits."""
    stochastic = gradient_rounding == "stochastic"
    draws = seed_and_step(program, "gradient_rounding=stochastic") if stochastic else ()
    chosen, taken = quantized(program, exempt, attention), program.names()
    format_ = INTS[gradient_bits]
    codes: dict[str, Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        g = plain_gradient(op, chosen)
        if g is None:
            return None
        ahead: tuple[Op, ...] = ()
        if op.origin not in codes:
            ahead, numbers = in_units(op.origin, g, format_.max, taken)
            name = unused(part(op.origin, "dyq"), taken)
            codes[op.origin] = q = Value(name, TensorType(g.type.shape, format_, Scale.TENSOR))
            how = attrs(salt=salt_of(q.name)) if draws else attrs()
            kind = "round_stochastic" if draws else "cast"
            ahead = (*ahead, Op(kind, (numbers, *draws), (q,), how, op.origin))
        return (*ahead, replace(op, inputs=(codes[op.origin], op.inputs[1])))

    out = program.rewrite(rule, by="integer_gradients")
    return with_seed(out, draws, bool(codes))


def in_units(layer: str, g: Value, top: float, taken: set[str]) -> tuple[tuple[Op, ...], Value]:
    """``g`` in units of its largest size over ``top``, and the ops that make it.

    In f32: a quotient by such a unit is no number of a narrow carrier.
    """
    largest, unit = (
        Value(unused(part(layer, name), taken), SCALAR) for name in ("dy.amax", "dy.unit")
    )
    type_ = TensorType(g.type.shape, F32, Scale.TENSOR)
    numbers = Value(unused(part(layer, "dyn"), taken), type_)
    return (
        Op("amax", (g,), (largest,), origin=layer),
        Op("scale", (largest,), (unit,), attrs(factor=1 / top), layer),
        Op("normalize", (g, unit), (numbers,), origin=layer),
    ), numbers
