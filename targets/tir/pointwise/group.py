"""The spec of a group of fused ops; a plan is made of it without TVM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ....compiler.errors import NoKernelError
from ....compiler.ir import Op, Value
from ...plan.layout import Order
from .space import Node, PointwiseSpec

Spec = TypeVar("Spec", bound=PointwiseSpec)


def group_spec(
    make: type[Spec],
    ops: tuple[Op, ...],
    outputs: tuple[Value, ...],
    orders: Mapping[Value, Order],
    lanes: int,
) -> tuple[Spec, tuple[Value, ...]]:
    """The spec of pointwise ops and tails over one shape, and the values that it reads.

    ``outputs`` are the values to store. Raises NoKernelError for a packed value whose memory
    order differs from that of the group.
    """
    made = {r for op in ops for r in op.results}
    inputs = tuple(dict.fromkeys(v for op in ops for v in op.inputs if v not in made))
    values = tuple(dict.fromkeys(v for op in ops for v in (*op.inputs, *op.results)))
    number = {v: i for i, v in enumerate(values)}
    spec = make(
        types=tuple(v.type for v in values),
        orders=tuple(orders[v] for v in values),
        nodes=tuple(
            Node(
                op.kind,
                tuple(sorted(op.attrs.items())),
                tuple(number[v] for v in op.inputs),
                tuple(number[v] for v in op.results),
            )
            for op in ops
        ),
        inputs=tuple(number[v] for v in inputs),
        outputs=tuple(number[v] for v in outputs),
        lanes=lanes,
    )
    _check(spec, ops, values)
    return spec, inputs


def _check(spec: PointwiseSpec, ops: tuple[Op, ...], values: tuple[Value, ...]) -> None:
    for i in spec.whole:
        layout = spec.layout(i)
        if layout.parts > 1 and not spec.space.same_memory(layout):
            raise NoKernelError(
                f"{values[i].name} : {values[i].type} of layer {ops[0].origin!r} is packed along "
                f"another dimension than the ops it is computed with; kernels pack channels last"
            )
