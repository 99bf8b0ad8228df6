"""Ops that move elements, rows by index and places in ONNX."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...compiler.ir import Op
from .elements import ElementType
from .frame import Context, InGraph, Lower
from .pointwise import relation

LAST = np.iinfo(np.int64).max


def view(c: Context, op: Op) -> InGraph:
    """Reshape; of codes behind a Max that changes nothing.

    onnxruntime moves DequantizeLinear over a Reshape next to it, and fails for INT8.
    """
    held, coded = c.held(op.inputs[0]), op.inputs[0].type.format.is_coded
    numbers = c.fenced(held.numbers) if coded else held.numbers
    return replace(held, numbers=c.g.op("Reshape", numbers, c.target(op.result)))


def permute(c: Context, op: Op) -> str:
    """Transpose."""
    return c.g.op("Transpose", c.real(op.inputs[0]), perm=op.ints_attr("dims"))


def cat(c: Context, op: Op) -> str:
    """Concat; what all samples share is repeated for each."""
    parts = [c.whole(op, i, op.result) for i in range(len(op.inputs))]
    return c.g.op("Concat", *parts, axis=op.int_attr("dim"))


def slice_(c: Context, op: Op) -> str:
    """Slice."""
    dim, start, step = (op.int_attr(k) for k in ("dim", "start", "step"))
    end = start + (op.result.type.shape[dim] - 1) * step + 1
    return c.g.op("Slice", c.real(op.inputs[0]), *(c.g.ints(n) for n in (start, end, dim, step)))


def slice_grad(c: Context, op: Op) -> str:
    """Zeros between and around: columns of a matrix, of which the first one is filled."""
    (g,), dim, start, step = op.inputs, *(op.int_attr(k) for k in ("dim", "start", "step"))
    rank, count = len(g.type.shape), g.type.shape[dim]
    name = c.real(g)
    if step > 1:
        apart = c.g.op("Unsqueeze", name, c.g.ints(dim + 1))
        wide = _padded(c, apart, {dim + 1: (0, step - 1)}, rank + 1, 0.0)
        sizes = [*g.type.shape[:dim], count * step, *g.type.shape[dim + 1 :]]
        name = c.g.op("Reshape", wide, c.g.ints(*sizes))
        last = c.g.ints((count - 1) * step + 1)
        name = c.g.op("Slice", name, c.g.ints(0), last, c.g.ints(dim))
    held = (count - 1) * step + 1
    return _padded(c, name, {dim: (start, op.result.type.shape[dim] - start - held)}, rank, 0.0)


def pad(c: Context, op: Op) -> str:
    """A constant border."""
    shapes = zip(op.ints_attr("before"), op.inputs[0].type.shape, op.result.type.shape, strict=True)
    borders = {i: (b, made - b - n) for i, (b, n, made) in enumerate(shapes)}
    rank, value = len(op.result.type.shape), op.float_attr("value")
    return _padded(c, c.real(op.inputs[0]), borders, rank, value)


def _padded(
    c: Context, x: str, borders: dict[int, tuple[int, int]], rank: int, value: float
) -> str:
    ends = [borders.get(i, (0, 0)) for i in range(rank)]
    pads = c.g.ints(*(b for b, _ in ends), *(a for _, a in ends))
    return c.g.op("Pad", x, pads, c.g.f32(value), mode="constant")


def one_hot(c: Context, op: Op) -> str:
    """Where the number of a class is the target's, which is none to ignore."""
    shape, element = op.result.type.shape, np.int64
    target = c.g.op("Unsqueeze", c.real(op.inputs[0]), c.g.ints(1))
    if op.inputs[0].type.format.bits == 32:
        target = c.g.op("Cast", target, to=ElementType.INT64.value)
    classes = np.arange(shape[1], dtype=element).reshape(1, -1, *(1,) * (len(shape) - 2))
    ignored = op.int_attr("ignore_index")
    if 0 <= ignored < shape[1]:
        classes[0, ignored] = LAST
    return relation(c, "eq", target, c.g.constant(classes))


def hard_choice(c: Context, op: Op) -> str:
    """One-hot of the first of the largest."""
    best = c.g.op("ArgMax", c.real(op.inputs[0]), axis=1, keepdims=1)
    classes = np.arange(op.result.type.shape[1], dtype=np.int64)[None]
    return relation(c, "eq", best, c.g.constant(classes))


def resample(c: Context, op: Op) -> str:
    """As many gathered tensors as a place has taps, each times its weights; in their order."""
    x, dim, starts = c.real(op.inputs[0]), op.int_attr("dim"), op.ints_attr("starts")
    index, weights = np.array(op.ints_attr("index")), np.array(op.floats_attr("weights"))
    counts = np.diff(starts)
    column = (-1, *(1,) * (len(op.result.type.shape) - dim - 1))
    total = None
    for tap in range(max(int(counts.max()), 1)):
        there = counts > tap
        places = np.where(there, np.array(starts[:-1]) + tap, 0)
        rows = np.where(there, index[places], 0) if len(index) else np.zeros(len(there), int)
        by = np.where(there, weights[places], 0.0) if len(index) else np.zeros(len(there))
        part = c.g.op("Gather", x, c.g.constant(rows.astype(np.int64)), axis=dim)
        if not np.all(by == 1):
            part = c.g.op("Mul", part, c.g.constant(by.astype(np.float32).reshape(column)))
        total = part if total is None else c.g.op("Add", total, part)
    assert total is not None
    return total


def embedding(c: Context, op: Op) -> str:
    """Rows; a batch with an index outside is refused, by quatrain too."""
    w, index = op.inputs
    if index in c.inputs:
        return c.g.op("Gather", c.real(w), c.real(index), axis=0)
    rows, outside = _rows(c, op, w.type.shape[0], wraps=False)
    return _or_nothing(c, op, c.g.op("Gather", c.real(w), rows, axis=0), outside, (-1,))


def take(c: Context, op: Op) -> str:
    """Rows of the middle of three dimensions."""
    rank = len(op.inputs[1].type.shape)
    rows, outside = _rows(c, op, op.inputs[0].type.shape[1], wraps=op.bool_attr("wraps"))
    made = c.g.op("Gather", c.real(op.inputs[0]), rows, axis=1)
    return _or_nothing(c, op, made, outside, (0, rank + 1))


def gather(c: Context, op: Op) -> str:
    """A row for each element."""
    x = op.inputs[0]
    rows, outside = _rows(c, op, x.type.shape[1], wraps=False, whole=True)
    made = c.g.op("GatherElements", c.whole(op, 0, op.result), rows, axis=1)
    return _or_nothing(c, op, made, outside, ())


def _rows(
    c: Context, op: Op, rows: int, *, wraps: bool, whole: bool = False
) -> tuple[str, str | None]:
    """Rows that an index names, from 0 on, and where there is none (None: nowhere)."""
    index = c.whole(op, 1, op.result) if whole else c.real(op.inputs[1])
    array = c.g.array(index)
    if array is not None:
        there = np.where(array < 0, array + rows, array) if wraps else array
        if ((there >= 0) & (there < rows)).all():
            return c.g.constant(there), None
    dtype = np.int32 if op.inputs[1].type.format.bits == 32 else np.int64
    none, top = (c.g.constant(np.asarray(n, dtype)) for n in (0, rows - 1))
    if wraps:
        behind = c.g.op("Add", index, c.g.constant(np.asarray(rows, dtype)))
        index = c.g.op("Where", c.g.op("Less", index, none), behind, index)
    outside = c.g.op("Or", c.g.op("Less", index, none), c.g.op("Greater", index, top))
    return c.g.op("Where", outside, none, index), outside


def _or_nothing(c: Context, op: Op, made: str, outside: str | None, beside: tuple[int, ...]) -> str:
    """NaN, of integers -1, where there is no row; ``beside`` are dimensions around the index."""
    if outside is None:
        return made
    f = op.result.type.format
    number = np.asarray(-1, np.int32 if f.bits == 32 else np.int64) if f.is_index else None
    nothing = c.g.f32(float("nan")) if number is None else c.g.constant(number)
    if beside:
        outside = c.g.op("Unsqueeze", outside, c.g.ints(*beside))
    return c.g.op("Where", outside, nothing, made)


def scatter(c: Context, op: Op) -> str:
    """Elements to rows; those to no row go to one behind, which is cut off."""
    x, index, y = (c.whole(op, i, op.result) for i in range(3))
    rows, rank = op.inputs[0].type.shape[1], 3
    found, outside = _rows(c, op, rows, wraps=False, whole=True)
    if outside is None:
        return c.g.op("ScatterElements", x, found, y, axis=1)
    whole = op.inputs[1].type.format.bits == 64
    behind = c.g.constant(np.asarray(rows, np.int64 if whole else np.int32))
    placed = c.g.op("Where", outside, behind, index)
    if op.result.type.format.is_index:
        first = c.g.op("Slice", x, c.g.ints(0), c.g.ints(1), c.g.ints(1))
        wide = c.g.op("Concat", x, first, axis=1)
    else:
        wide = _padded(c, x, {1: (0, 1)}, rank, 0.0)
    made = c.g.op("ScatterElements", wide, placed, y, axis=1)
    kept = c.g.op("Slice", made, c.g.ints(0), c.g.ints(rows), c.g.ints(1))
    return kept if op.result.type.format.is_index else _spoiled(c, kept, outside, rows)


def _spoiled(c: Context, z: str, outside: str, rows: int) -> str:
    """NaN in row 0 where an element had no row."""
    counts = c.g.op("Cast", outside, to=ElementType.FLOAT.value)
    lost = c.g.op("ReduceMax", counts, c.g.ints(1), keepdims=1)
    first = np.zeros((1, rows, 1), np.bool_)
    first[0, 0] = True
    there = c.g.op("And", c.g.op("Cast", lost, to=ElementType.BOOL.value), c.g.constant(first))
    return c.g.op("Where", there, c.g.f32(float("nan")), z)


def place(c: Context, op: Op) -> str:
    """Row-major among sizes; -1 where an index lies outside."""
    total, lost = c.g.int64(0), None
    for i, size in enumerate(op.ints_attr("sizes")):
        index, rows = c.real(op.inputs[i]), c.g.int64(size)
        none = c.g.int64(0)
        if op.bool_attr("wraps"):
            behind = c.g.op("Add", index, rows)
            index = c.g.op("Where", c.g.op("Less", index, none), behind, index)
        outside = c.g.op("Or", c.g.op("Less", index, none), c.g.op("GreaterOrEqual", index, rows))
        lost = outside if lost is None else c.g.op("Or", lost, outside)
        total = c.g.op("Add", c.g.op("Mul", total, rows), index)
    assert lost is not None
    return c.g.op("Where", lost, c.g.int64(-1), total)


def order(c: Context, op: Op) -> str:
    """TopK of all, which keeps equal ones in their order."""
    rows = c.g.ints(op.inputs[0].type.shape[1])
    how = {"axis": 1, "largest": int(op.bool_attr("descending")), "sorted": 1}
    return c.g.node("TopK", (c.real(op.inputs[0]), rows), how, outputs=2)[1]


def argmax(c: Context, op: Op) -> str:
    """The first of the largest."""
    return c.g.op("ArgMax", c.real(op.inputs[0]), axis=1, keepdims=0)


def cumsum(c: Context, op: Op) -> str:
    """In f64, or in integers."""
    x, along = c.real(op.inputs[0]), c.g.int64(1)
    if op.result.type.format.is_index:
        return c.g.op("CumSum", x, along)
    wide = c.g.op("CumSum", c.g.op("Cast", x, to=ElementType.DOUBLE.value), along)
    return c.g.op("Cast", wide, to=ElementType.FLOAT.value)


SHAPE: dict[str, Lower] = {
    "view": view,
    "permute": permute,
    "cat": cat,
    "slice": slice_,
    "slice_grad": slice_grad,
    "pad": pad,
    "one_hot": one_hot,
    "hard_choice": hard_choice,
    "resample": resample,
    "embedding": embedding,
    "take": take,
    "gather": gather,
    "scatter": scatter,
    "place": place,
    "order": order,
    "argmax": argmax,
    "cumsum": cumsum,
}
