"""Which products read a gradient, and which of them one that no pass has taken yet."""

from __future__ import annotations

from collections.abc import Container

from ...compiler.ir import Op, Value
from ...compiler.ir.ops import GRADIENT_PRODUCTS
from ...compiler.types import Scale


def plain_gradient(op: Op, chosen: Container[str]) -> Value | None:
    """dY of a product of a chosen layer, where it is plain floats; else None."""
    if op.kind not in GRADIENT_PRODUCTS or op.origin not in chosen:
        return None
    type_ = op.inputs[0].type
    return op.inputs[0] if type_.format.is_carrier and type_.scale is Scale.NONE else None
