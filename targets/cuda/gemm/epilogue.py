"""From a sum to what is stored: factor, rounding, bias, rounding."""

from __future__ import annotations

from collections.abc import Sequence

from ...gemm.product import Product
from ...tir.expr import Code, Expr, Vectors, load
from ...tir.formats import from_memory, round_carrier, to_memory
from .operand import GemmSlots, StoredOperand, factor


def finish(
    code: Code, spec: Product, slots: GemmSlots, total: Expr, place: Sequence[Expr], lanes: int = 1
) -> Expr:
    """Store the results at N, C, H, W of sums in f32, of ``lanes`` neighbouring channels.

    What is stored, in f32.
    """
    v = Vectors(code, lanes)
    channel = place[1]
    y = v.mul(total, factor(v, spec, slots, channel))
    f = spec.out.type.format
    if slots.bias is not None and spec.bias is not None:
        made = round_carrier(v, y, spec.made)
        bias = from_memory(v, load(slots.bias, channel, lanes), spec.bias.type.format)
        y = v.add(made, v.f(bias))
    stored = round_carrier(v, y, f)
    StoredOperand(code, slots.out, spec.out).put(place, to_memory(v, stored, f), lanes)
    return stored
