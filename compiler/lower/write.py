"""Lowering of writes into a part of a tensor, which make a tensor of their own."""

from __future__ import annotations

import numpy as np

from ..ir import Value
from .builder import Builder, CallLowering, refuse, result_shape, shape_of
from .joint import Arg, Call
from .pointwise import operand
from .shape import sliced, viewed
from .whole import repeated, whole_of


def copy(b: Builder, call: Call) -> None:
    """A source in the shape of what it is written over."""
    source, shape = call.args[1], result_shape(call)
    b.bind(call, _like(b, b.of(call.args[0]), source, shape))


def _like(b: Builder, base: Value, source: Arg, shape: tuple[int, ...]) -> Value:
    """What is written, in the kind of numbers that is there."""
    if base.type.format.is_index:
        return repeated(b, whole_of(b, source), shape)
    return operand(b, source, shape)


def select_scatter(b: Builder, call: Call) -> None:
    """x[..., index, ...] = source"""
    x, source, dim_arg, index = call.args
    shape = result_shape(call)
    assert isinstance(dim_arg, int) and isinstance(index, int)
    dim = dim_arg % len(shape)
    base = b.of(x)
    thin = (*shape[:dim], *shape[dim + 1 :])
    part = viewed(b, _like(b, base, source, thin), (*shape[:dim], 1, *shape[dim + 1 :]))
    b.bind(call, _placed(b, call, base, part, dim, index % shape[dim], 1))


def slice_scatter(b: Builder, call: Call) -> None:
    """x[..., start:end:step, ...] = source"""
    x, source, dim_arg, start, end, step = call.args
    shape = result_shape(call)
    assert isinstance(dim_arg, int) and isinstance(step, int)
    dim = dim_arg % len(shape)
    first, last, step = slice(_bound(start), _bound(end), step).indices(shape[dim])
    count = len(range(first, last, step))
    base = b.of(x)
    part = _like(b, base, source, (*shape[:dim], count, *shape[dim + 1 :]))
    b.bind(call, _placed(b, call, base, part, dim, first, step) if count else base)


def _bound(value: Arg) -> int | None:
    assert value is None or isinstance(value, int)
    return value


def _placed(
    b: Builder, call: Call, base: Value, part: Value, dim: int, start: int, step: int
) -> Value:
    """``base`` with a part at start, start + step, ... of a dimension."""
    shape, count = shape_of(base), shape_of(part)[dim]
    if count == shape[dim]:
        return part
    if step == 1 or count == 1:
        ahead = [sliced(b, base, dim, 0, start)] if start else []
        rest = shape[dim] - start - count
        behind = [sliced(b, base, dim, start + count, rest)] if rest else []
        return b.one("cat", (*ahead, part, *behind), "written", shape, dim=dim)
    if base.type.format.is_index:
        raise refuse(call, "writes every so many integers; write them one by one")
    mask = np.zeros(shape, np.float32)
    mask[(slice(None),) * dim + (slice(start, start + count * step, step),)] = 1.0
    kept = b.one("masked", (b.fixed_value(call, mask), base), "kept", shape, value=0.0)
    attributes = {"dim": dim, "start": start, "step": step}
    placed = b.one("slice_grad", (part,), "placed", shape, **attributes)
    return b.one("add", (kept, placed), "written", shape)


def filled(b: Builder, call: Call) -> None:
    """One number everywhere, that of a tensor of one."""
    base, shape = b.of(call.args[0]), result_shape(call)
    b.bind(call, _like(b, base, call.args[1], shape))


WRITE: dict[str, CallLowering] = {
    "aten.copy.default": copy,
    "aten.select_scatter.default": select_scatter,
    "aten.slice_scatter.default": slice_scatter,
    "aten.fill.Tensor": filled,
}
