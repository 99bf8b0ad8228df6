"""Which operands of a layer's products are data, and whose gradient each of them makes.

A layer with a weight has one operand of data, a product of activations two:

    layer of        forward    dX         dW         data      gradients of data
    a weight        x w        dy w       dy x       x         dX
    two activations a b        dy b       dy a       a, b      dX of a, dW of b
"""

from __future__ import annotations

from collections.abc import Mapping

from ...compiler.ir import Op, Value
from ...compiler.ir.ops import (
    BETWEEN_ACTIVATIONS,
    FORWARD_GEMMS,
    INPUT_GRADS,
    WEIGHT_GRADS,
)


def data_read(op: Op) -> dict[int, int]:
    """The places of operands of a product that are data, and their places in the forward GEMM."""
    if op.kind in FORWARD_GEMMS:
        return {0: 0, 1: 1} if op.kind in BETWEEN_ACTIVATIONS else {0: 0}
    if op.kind in WEIGHT_GRADS:
        return {1: 0}
    return {1: 1} if op.kind in BETWEEN_ACTIVATIONS else {}


def gradient_made(op: Op) -> int | None:
    """The place in the forward GEMM of the data whose gradient a product makes."""
    if op.kind in INPUT_GRADS:
        return 0
    return 1 if op.kind in WEIGHT_GRADS & BETWEEN_ACTIVATIONS else None


def data_of(gemm: Op) -> tuple[Value, ...]:
    """The data of a layer, by its forward GEMM."""
    return tuple(gemm.inputs[i] for i in data_read(gemm))


def with_codes(op: Op, gemm: Op, codes: Mapping[Value, Value]) -> tuple[Value, ...]:
    """The operands of a product of the layer of ``gemm``, its data in ``codes``."""
    places = data_read(op)
    return tuple(
        codes[gemm.inputs[places[i]]] if i in places else v for i, v in enumerate(op.inputs)
    )


def named(op: Op, place: int, name: str) -> str:
    """The name of what a pass adds to an operand of a forward GEMM: ``clip``, ``a.clip``."""
    return f"{'ab'[place]}.{name}" if op.kind in BETWEEN_ACTIVATIONS else name


def roles_of(op: Op) -> tuple[str, str]:
    """What both operands of a product are: x, w, dy, and a, b of a product of activations."""
    first, second = ("a", "b") if op.kind in BETWEEN_ACTIVATIONS else ("x", "w")
    if op.kind in FORWARD_GEMMS:
        return first, second
    return "dy", first if op.kind in WEIGHT_GRADS else second
