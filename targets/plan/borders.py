"""Ops at the border of a loop, as kernels see them: which loop it is they need not know."""

from __future__ import annotations

from dataclasses import replace

from ...compiler.ir import Op, Value
from ...compiler.ir.loops import FEED, is_border
from .fuse import Group


def data_of(op: Op) -> tuple[Value, ...]:
    """What a kernel of an op reads: at the border of a loop not which loop it is."""
    if op.kind == FEED:
        return op.inputs[1:]
    return op.inputs[:1] if is_border(op) else op.inputs


def without_counter(group: Group) -> Group:
    """A group as kernels see it."""
    first = group.ops[0]
    if not is_border(first):
        return group
    return replace(group, ops=(replace(first, inputs=data_of(first)),))
