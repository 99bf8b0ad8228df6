"""Shifted gradients: 8-bit integers in units of a power of two, the one nearest to the maximum.

"Training High-Performance and Large-Scale Deep Neural Networks with Full 8-bit Integers" (Yang et
al., Neural Networks 125, 2020; WAGEUBN), E1 and E2; details follow the authors' published code.
R = 2^round(log2 max |e|), s = R / 128.

    gradient of          levels                                          codes
    an activation   E1   k s, |k| <= 127                                 int8, then f32 again
    a layer's output, dY, into dX and dW
        flag        E2   k s / 128, |k| <= 128, and k s, 1 <= |k| <= 127   int15, steps of s / 128
        int8             k s, |k| <= 127                                   int8
        int16            k R / 2^15, |k| <= 32767                          int16
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import INT8, INT15, INT16
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import GRADIENT_PRODUCTS
from ..compiler.types import Scale, TensorType
from .parts.data import data_of, gradient_made
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import Attention, layers, quantized
from .parts.shift import Shifts, around

BITS = 8
UNIT = 2.0 ** (BITS - 1)


@placed(makes=Makes.CODES, after=("fixed_norm",))
def shift_gradients(
    program: Program,
    *,
    output_gradient: Literal["flag", "int8", "int16"] = "flag",
    activation_gradient: bool = True,
    exempt: str = "first,last",
    attention: Attention = "keep",
) -> Program:
    """Round dY of each layer for both its products, and the gradient of each layer's data.

    The latter is rounded where the ReLU that made the data takes it, with all readers' shares
    added; where no ReLU made it, as each layer returns it. ``activation_gradient=false`` leaves it.
    """
    chosen = quantized(program, exempt, attention)
    work = _Shifted(program, chosen, output_gradient, activation_gradient)
    return program.rewrite(work.rule, by="shift_gradients")


class _Shifted:
    """The rule of the pass, with the gradients rounded so far."""

    def __init__(self, program: Program, chosen: frozenset[str], how: str, data: bool) -> None:
        self.chosen, self.how = chosen, how
        self.shifts = Shifts(program.names())
        self.codes: dict[Value, Value] = {}
        sources = _sources(program, chosen) if data else {}
        taken_by_relu = {
            op.inputs[1].name for _, op in program.ops() if op.kind == "relu_grad"
        } & set(sources.values())
        self.masks = taken_by_relu
        self.alone = {at for at, x in sources.items() if x not in taken_by_relu}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind == "relu_grad" and op.inputs[1].name in self.masks:
            ops, g = self.activation(op.origin, op.inputs[0])
            return (*ops, replace(op, inputs=(g, op.inputs[1])))
        if op.kind not in GRADIENT_PRODUCTS or op.origin not in self.chosen:
            return None
        g, other = op.inputs
        ahead: list[Op] = []
        if g not in self.codes and g.type.format.is_carrier and g.type.scale is Scale.NONE:
            ahead, self.codes[g] = self.output(op.origin, g)
        op = replace(op, inputs=(self.codes.get(g, g), other))
        if (op.origin, gradient_made(op)) not in self.alone:
            return (*ahead, op)
        # The rounded gradient takes the old name, and with it the readers.
        made = op.result
        raw = Value(unused(f"{made.name}.raw", self.shifts.taken), made.type)
        ops, _ = self.activation(op.origin, raw, Value(made.name, made.type))
        return (*ahead, replace(op, results=(raw,)), *ops)

    def output(self, layer: str, g: Value) -> tuple[list[Op], Value]:
        """E2, or one of its rivals."""
        if self.how == "int8":
            return self.shifts.rounded(layer, g, "dy", around(UNIT), INT8)
        if self.how == "int16":
            return self.shifts.rounded(layer, g, "dy", around(2.0**15), INT16)
        ops, _, scaled = self.shifts.scaled(layer, g, "dy", around(UNIT * UNIT))
        made = TensorType(g.type.shape, INT15, Scale.POW2)
        codes = Value(unused(part(layer, "dyq"), self.shifts.taken), made)
        flag = Op("round_flag", (scaled,), (codes,), attrs(bits=BITS), layer)
        return [*ops, flag], codes

    def activation(self, layer: str, g: Value, made: Value | None = None) -> tuple[list[Op], Value]:
        """E1."""
        ops, codes = self.shifts.rounded(layer, g, "da", around(UNIT), INT8)
        made = made or Value(unused(part(layer, "da"), self.shifts.taken), g.type)
        return [*ops, Op("dequantize", (codes,), (made,), origin=layer)], made


def _sources(program: Program, chosen: frozenset[str]) -> dict[tuple[str, int | None], str]:
    """The names of each layer's data by their places, ahead of quantizers where they have some."""
    makers = program.producers()
    found: dict[tuple[str, int | None], str] = {}
    for layer, op in layers(program).items():
        for place, x in enumerate(data_of(op) if layer in chosen else ()):
            while x.type.format.is_coded and x in makers:
                x = makers[x].inputs[0]
            found[layer, place] = x.name
    return found
