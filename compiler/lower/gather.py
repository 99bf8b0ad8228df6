"""Lowering of reads and writes by index, and of what finds places, along a dimension of any tensor.

An op of the IR acts along the middle one of three dimensions: those ahead and those behind are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from ..ir import Value
from ..types import Shape
from .builder import Builder, CallLowering, number, refuse, result_shape, shape_of
from .joint import Arg, Call, JointTensor
from .pointwise import broadcast, scaled
from .shape import permuted, sliced, viewed
from .whole import checked_rows, made_whole, repeated, uniform, whole_of

DIGIT = 1 << 22  # of an integer of 64 bits in three


def around(shape: Shape, dim: int) -> tuple[int, int, int]:
    """The sizes ahead of a dimension, along it and behind."""
    return prod(shape[:dim]), shape[dim] if shape else 1, prod(shape[dim + 1 :])


def dim_of(value: Arg, shape: Shape) -> int:
    """A dimension that may count from the end."""
    assert isinstance(value, int)
    return value % max(len(shape), 1)


def _checked(b: Builder, call: Call, index: Arg, rows: int, *, wraps: bool) -> Value:
    """An index as integers; one that is a constant names rows that there are."""
    known = b.numbers(index)
    if known is not None:
        checked_rows(call, known, rows, wraps=wraps)
    return whole_of(b, index)


def take(b: Builder, x: Value, index: Value, dim: int, *, wraps: bool) -> Value:
    """The rows along ``dim`` that an index names, in the place of that dimension."""
    shape, many = shape_of(x), shape_of(index)
    left, rows, right = around(shape, dim)
    thin = viewed(b, x, (left, rows, right))
    made = b.one("take", (thin, index), "take", (left, *many, right), wraps=wraps)
    return viewed(b, made, (*shape[:dim], *many, *shape[dim + 1 :]))


def take_grad(b: Builder, g: Value, index: Value, shape: Shape, dim: int, *, wraps: bool) -> Value:
    """Sums of the rows of ``g`` where an index names them; of ``shape``."""
    left, rows, right = around(shape, dim)
    many = viewed(b, g, (left, *shape_of(index), right))
    size = (left, rows, right)
    return viewed(b, b.one("take_grad", (many, index), "take.dx", size, wraps=wraps), shape)


def index_select(b: Builder, call: Call) -> None:
    """Rows along one dimension."""
    x = b.of(call.args[0])
    dim = dim_of(call.args[1], shape_of(x))
    index = _checked(b, call, call.args[2], around(shape_of(x), dim)[1], wraps=False)
    index = viewed(b, index, (index.type.elements,))
    b.bind(call, viewed(b, take(b, x, index, dim, wraps=False), result_shape(call)))


def index_add(b: Builder, call: Call) -> None:
    """x + alpha * the sums of rows by index."""
    x, dim_arg, index, source, alpha = call.args
    shape = result_shape(call)
    dim = dim_of(dim_arg, shape)
    rows = _checked(b, call, index, around(shape, dim)[1], wraps=False)
    rows = viewed(b, rows, (rows.type.elements,))
    made = take_grad(b, b.of(source), rows, shape, dim, wraps=False)
    b.bind(call, _added(b, x, scaled(b, made, number(alpha))))


def _added(b: Builder, x: Arg, made: Value) -> Value:
    """x + made; made alone where x is zeros."""
    base = b.of(x)
    if b.constants.get(base) == 0.0:
        return made
    return b.one("add", (base, made), "sum", shape_of(made))


def gather(b: Builder, call: Call) -> None:
    """Each element of the result from a row of its own."""
    x, dim_arg, index = call.args[:3]
    shape = result_shape(call)
    dim = dim_of(dim_arg, shape)
    v = _cut(b, b.of(x), shape, dim)
    rows = _checked(b, call, index, around(shape_of(v), dim)[1], wraps=False)
    left, _, right = around(shape, dim)
    thin = viewed(b, v, (left, around(shape_of(v), dim)[1], right))
    where = viewed(b, rows, around(shape, dim))
    made = b.one("gather", (thin, where), "gather", around(shape, dim))
    b.bind(call, viewed(b, made, shape))


def _cut(b: Builder, v: Value, shape: Shape, dim: int) -> Value:
    """The first elements of all dimensions but ``dim``, as many as ``shape`` has."""
    for d, size in enumerate(shape):
        if d != dim and size != shape_of(v)[d]:
            part = (*shape_of(v)[:d], size, *shape_of(v)[d + 1 :])
            v = b.one("slice", (v,), "slice", part, dim=d, start=0, step=1)
    return v


def scatter_add(b: Builder, call: Call) -> None:
    """x with the elements of a source added at rows of their own."""
    x, dim_arg, index, source = call.args[:4]
    shape = result_shape(call)
    dim = dim_of(dim_arg, shape)
    rows = _checked(b, call, index, around(shape, dim)[1], wraps=False)
    g = _cut(b, b.of(source), shape_of(rows), dim if shape_of(rows) == () else -1)
    made = _gather_grad(b, g, rows, shape, dim)
    b.bind(call, _added(b, x, made))


def _gather_grad(b: Builder, g: Value, index: Value, shape: Shape, dim: int) -> Value:
    """Sums by rows; zeros where other dimensions of the index end earlier."""
    small = (*shape_of(index)[:dim], *shape[dim : dim + 1], *shape_of(index)[dim + 1 :])
    size, many = around(small, dim), around(shape_of(index), dim)
    pair = viewed(b, g, many), viewed(b, index, many)
    made = viewed(b, b.one("gather_grad", pair, "gather.dx", size), small)
    if small == shape:
        return made
    return b.one("pad", (made,), "padded", shape, before=(0,) * len(shape), value=0.0)


def scatter(b: Builder, call: Call) -> None:
    """x with the elements of a source, or one number, written at rows of their own."""
    x, dim_arg, index, source = call.args[:4]
    shape = result_shape(call)
    dim = dim_of(dim_arg, shape)
    rows = _checked(b, call, index, around(shape, dim)[1], wraps=False)
    many, base = shape_of(rows), b.of(x)
    if isinstance(source, JointTensor):
        written = _cut(b, b.of(source), many, -1)
    elif base.type.format.is_index:
        written = uniform(b, many, int(number(source)))
    else:
        written = b.constant(many, number(source))
    part = _cut(b, base, many, dim)
    b.bind(call, _around(b, base, _written(b, part, rows, written, dim)))


def _around(b: Builder, base: Value, part: Value) -> Value:
    """``base`` with its first elements along all dimensions replaced by those of ``part``."""
    for d in reversed(range(len(shape_of(base)))):
        size, count = shape_of(base)[d], shape_of(part)[d]
        if count != size:
            ahead = (*shape_of(part)[:d], size, *shape_of(base)[d + 1 :])
            rest = sliced(b, _cut(b, base, ahead, d), d, count, size - count)
            part = b.one("cat", (part, rest), "written", ahead, dim=d)
    return part


def _written(b: Builder, base: Value, rows: Value, written: Value, dim: int) -> Value:
    shape, many = shape_of(base), around(shape_of(rows), dim)
    inputs = (
        viewed(b, base, around(shape, dim)),
        viewed(b, rows, many),
        viewed(b, written, many),
    )
    return viewed(b, b.one("scatter", inputs, "scatter", around(shape, dim)), shape)


def cumsum(b: Builder, call: Call) -> None:
    """Running sums."""
    shape = result_shape(call)
    dim = dim_of(call.args[1], shape)
    x = viewed(b, b.of(call.args[0]), around(shape, dim))
    b.bind(call, viewed(b, b.one("cumsum", (x,), "cumsum", shape_of(x)), shape))


def _order(b: Builder, x: Value, dim: int, *, descending: bool) -> Value:
    thin = viewed(b, x, around(shape_of(x), dim))
    if not x.type.format.is_index:
        return made_whole(b, "order", (thin,), "order", shape_of(thin), descending=descending)
    # By the last of its digits first; as equal ones stay, those ahead decide in the end.
    order: Value | None = None
    for digit in _digits(b, thin):
        moved = digit if order is None else b.one("gather", (digit, order), "digit", shape_of(thin))
        by = b.one("to_number", (moved,), "number", shape_of(thin))
        found = made_whole(b, "order", (by,), "order", shape_of(thin), descending=descending)
        order = found if order is None else b.one("gather", (order, found), "order", shape_of(thin))
    assert order is not None
    return order


def _digits(b: Builder, x: Value) -> Iterator[Value]:
    """Integers as three digits, the last one first, each of which is a number without rounding."""
    for _ in range(2):
        yield made_whole(b, "whole_divided", (x,), "digit", shape_of(x), by=DIGIT, rest=True)
        x = made_whole(b, "whole_divided", (x,), "ahead", shape_of(x), by=DIGIT, rest=False)
    yield x


def _found(b: Builder, call: Call, x: Value, order: Value, dim: int) -> None:
    """Bind the numbers at places, and the places."""
    size = around(shape_of(x), dim)
    shape = result_shape(call)
    numbers = b.one("gather", (viewed(b, x, size), order), "found", shape_of(order))
    b.bind(call, viewed(b, numbers, shape), viewed(b, order, shape))


def topk(b: Builder, call: Call) -> None:
    """The first of all in their order; of equal ones those that come first."""
    x, count, dim_arg, largest = call.args[:4]
    v = b.of(x)
    assert isinstance(count, int)
    dim = dim_of(dim_arg, shape_of(v))
    order = _order(b, v, dim, descending=bool(largest))
    left, _, right = shape_of(order)
    if count != shape_of(order)[1]:
        part = (left, count, right)
        order = b.one("slice", (order,), "first", part, dim=1, start=0, step=1)
    _found(b, call, v, order, dim)


def sort(*, dim: int, descending: int) -> CallLowering:
    """Lowering of a sort, which keeps equal numbers in their order."""

    def lower(b: Builder, call: Call) -> None:
        v = b.of(call.args[0])
        along = dim_of(call.args[dim], shape_of(v))
        order = _order(b, v, along, descending=bool(call.args[descending]))
        _found(b, call, v, order, along)

    return lower


def argmax(*, least: bool) -> CallLowering:
    """Lowering of the place of the largest or the least number."""

    def lower(b: Builder, call: Call) -> None:
        v, dim = b.of(call.args[0]), call.args[1]
        v = viewed(b, v, (v.type.elements,)) if dim is None else v
        along = 0 if dim is None else dim_of(dim, shape_of(v))
        b.bind(call, viewed(b, _largest(b, v, along, least=least), result_shape(call)))

    return lower


def _largest(b: Builder, v: Value, dim: int, *, least: bool) -> Value:
    left, rows, right = around(shape_of(v), dim)
    if v.type.format.is_index:
        order = _order(b, v, dim, descending=not least)
        return viewed(b, sliced(b, order, 1, 0, 1), (left, right))
    thin = viewed(b, scaled(b, v, -1.0 if least else 1.0), (left, rows, right))
    return made_whole(b, "argmax", (thin,), "argmax", (left, right))


def extreme(*, least: bool) -> CallLowering:
    """Lowering of max and min along a dimension: the numbers, and their places."""

    def lower(b: Builder, call: Call) -> None:
        v, shape = b.of(call.args[0]), result_shape(call)
        dim, keep = dim_of(call.args[1], shape_of(v)), bool(call.args[2])
        sign = -1.0 if least else 1.0
        where = _largest(b, v, dim, least=least)
        if v.type.format.is_index:
            left, right = shape_of(where)
            pair = viewed(b, v, around(shape_of(v), dim)), viewed(b, where, (left, 1, right))
            made = b.one("gather", pair, "found", (left, 1, right))
            b.bind(call, viewed(b, made, shape), viewed(b, where, shape))
            return
        made = b.one("max", (scaled(b, v, sign),), "max", shape, dims=(dim,), keepdim=keep)
        b.bind(call, scaled(b, made, sign), viewed(b, where, shape))

    return lower


def index(b: Builder, call: Call) -> None:
    """x[i, :, j]: rows of the dimensions that are indexed, seen as one."""
    x = b.of(call.args[0])
    moved, rows, dim = _indexed(b, call, x, call.args[1])
    wraps = _one(call.args[1])
    b.bind(call, viewed(b, take(b, moved, rows, dim, wraps=wraps), result_shape(call)))


def _one(listed: Arg) -> bool:
    """Whether one dimension is indexed, by what may count from the end; several name a place."""
    assert isinstance(listed, tuple)
    return sum(i is not None for i in listed) == 1


def index_put(b: Builder, call: Call) -> None:
    """x with numbers written, or added, at such rows."""
    x, listed, values, adds = call.args[:4]
    base, shape = b.of(x), result_shape(call)
    _, order = _places(listed, len(shape))
    moved, rows, dim = _indexed(b, call, base, listed)
    size = (*shape_of(moved)[:dim], *shape_of(rows), *shape_of(moved)[dim + 1 :])
    source = b.of(values)
    whole = source.type.format.is_index
    if whole and adds:
        raise refuse(call, "adds integers by index; float() makes numbers of them")
    source = repeated(b, source, size) if whole else broadcast(b, source, size)
    if adds:
        made = take_grad(b, source, rows, shape_of(moved), dim, wraps=_one(listed))
    else:
        made = _put(b, moved, rows, source, dim, wraps=_one(listed))
    back = tuple(shape[d] for d in order)
    made = permuted(b, viewed(b, made, back), tuple(order.index(d) for d in range(len(shape))))
    b.bind(call, _added(b, x, made) if adds else made)


def _put(b: Builder, moved: Value, rows: Value, source: Value, dim: int, *, wraps: bool) -> Value:
    """Rows of ``source`` in the place of those that an index names."""
    left, size, right = around(shape_of(moved), dim)
    count = rows.type.elements
    known = made_whole(b, "place", (rows,), "place", shape_of(rows), sizes=(size,), wraps=wraps)
    many = repeated(b, viewed(b, known, (count, 1)), (left, count, right))
    flat = viewed(b, source, (left, count, right))
    thin = viewed(b, moved, (left, size, right))
    return viewed(b, _written(b, thin, many, flat, 1), shape_of(moved))


def _places(listed: Arg, rank: int) -> tuple[list[int], tuple[int, ...]]:
    """The dimensions with an index, and the order in which these stand side by side."""
    assert isinstance(listed, tuple)
    dims = [d for d, i in enumerate(listed) if i is not None]
    together = dims == [*range(dims[0], dims[0] + len(dims))]
    ahead = [d for d in range(dims[0]) if d not in dims] if together else []
    behind = [d for d in range(rank) if d not in dims and d not in ahead]
    return dims, (*ahead, *dims, *behind)


def _indexed(b: Builder, call: Call, x: Value, listed: Arg) -> tuple[Value, Value, int]:
    """x with the indexed dimensions as one, the rows of that one, and where it is."""
    shape = shape_of(x)
    dims, order = _places(listed, len(shape))
    assert isinstance(listed, tuple)
    if any(isinstance(i, JointTensor) and i.dtype == "bool" for i in listed):
        raise refuse(
            call, "selects by a mask, so that the size depends on it; torch.where keeps all"
        )
    sizes = tuple(shape[d] for d in dims)
    rows = _rows(b, call, [listed[d] for d in dims], sizes)
    moved = permuted(b, x, order)
    at = order.index(dims[0])
    one = (*shape_of(moved)[:at], prod(sizes), *shape_of(moved)[at + len(dims) :])
    return viewed(b, moved, one), rows, at


def _rows(b: Builder, call: Call, given: list[Arg], sizes: Shape) -> Value:
    """The row that several indices name together."""
    known = [b.numbers(i) for i in given]
    for numbers, size in zip(known, sizes, strict=True):
        if numbers is not None:
            checked_rows(call, numbers, size, wraps=True)
    if len(given) == 1:
        return whole_of(b, given[0])
    fixed = [numbers for numbers in known if numbers is not None]
    if len(fixed) == len(sizes):
        wide = np.broadcast_arrays(*(n % s for n, s in zip(fixed, sizes, strict=True)))
        flat = np.ravel_multi_index(tuple(wide), sizes).astype(np.int64)
        return b.fixed_value(call, flat)
    values = [whole_of(b, i) for i in given]
    shape = np.broadcast_shapes(*(shape_of(v) for v in values))
    wide_values = tuple(repeated(b, v, shape) for v in values)
    return made_whole(b, "place", wide_values, "place", shape, sizes=sizes, wraps=True)


GATHER: dict[str, CallLowering] = {
    "aten.index_select.default": index_select,
    "aten.index_add.default": index_add,
    "aten.index.Tensor": index,
    "aten._unsafe_index.Tensor": index,
    "aten.index_put.default": index_put,
    "aten._unsafe_index_put.default": index_put,
    "aten.gather.default": gather,
    "aten.scatter_add.default": scatter_add,
    "aten.scatter.src": scatter,
    "aten.scatter.value": scatter,
    "aten.cumsum.default": cumsum,
    "aten.topk.default": topk,
    "aten.sort.default": sort(dim=1, descending=2),
    "aten.sort.stable": sort(dim=2, descending=3),
    "aten.argmax.default": argmax(least=False),
    "aten.argmin.default": argmax(least=True),
    "aten.max.dim": extreme(least=False),
    "aten.min.dim": extreme(least=True),
}
