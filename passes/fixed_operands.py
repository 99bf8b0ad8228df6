"""Fixed operands: weights and activations as 8-bit integers with a fixed step of 1/128.

"Training High-Performance and Large-Scale Deep Neural Networks with Full 8-bit Integers" (Yang et
al., Neural Networks 125, 2020; WAGEUBN), Q_W and Q_A; details follow the authors' published code.

    operand                      codes    real values                    beyond
    weight                       int8     -127/128 .. 127/128            clipped
    activation, never negative   uint8    0 .. 255/128                   clipped
    activation, other            int8     -127/128 .. 127/128            clipped
    activations=wide             int16    -32767/128 .. 32767/128        clipped

Gradients pass all of these roundings and clips.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import F32, INT8, INT16, UINT8, Format
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import GEMMS
from ..compiler.types import Scale, TensorType
from .parts.data import roles_of
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import Attention, quantized
from .parts.sign import never_negative

STEP = 2.0**-7


@placed(makes=Makes.CODES)
def fixed_operands(
    program: Program,
    *,
    activations: Literal["clipped", "wide"] = "clipped",
    exempt: str = "first,last",
    attention: Attention = "keep",
) -> Program:
    """Let the products of each layer read weights and activations as multiples of 1/128."""
    chosen, taken = quantized(program, exempt, attention), program.names()
    positive = {v.name for v in never_negative(program)}
    codes: dict[Value, Value] = {}
    clips: dict[Format, Value] = {}

    def format_of(v: Value, name: str) -> Format:
        if name != "w" and activations == "wide":
            return INT16
        return UINT8 if name != "w" and v.name in positive else INT8

    def quantize(v: Value, name: str, layer: str) -> list[Op]:
        ops, format_ = list[Op](), format_of(v, name)
        if format_ not in clips:
            clips[format_] = Value(unused(f"limit.{format_}", taken), TensorType((), F32))
            limit = attrs(value=format_.max * STEP)
            ops.append(Op("constant", (), (clips[format_],), limit, layer))
        made = TensorType(v.type.shape, format_, Scale.TENSOR)
        codes[v] = Value(unused(part(layer, f"{name}q"), taken), made)
        return [*ops, Op("quantize", (v, clips[format_]), (codes[v],), origin=layer)]

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in GEMMS or op.origin not in chosen:
            return None
        ahead: list[Op] = []
        for v, name in zip(op.inputs, roles_of(op), strict=True):
            if name != "dy" and v not in codes and v.type.format.is_carrier:
                ahead += quantize(v, name, op.origin)
        return (*ahead, replace(op, inputs=tuple(codes.get(v, v) for v in op.inputs)))

    return program.rewrite(rule, by="fixed_operands")
