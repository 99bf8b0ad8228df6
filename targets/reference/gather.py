"""Reference of the ops that move by index and find places, along the middle of three dimensions."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers


def _rows(index: Array, rows: int, wraps: bool) -> tuple[Array, Array]:
    """The rows that an index names, and where there are such; others stand as row 0."""
    index = np.where(index < 0, index + rows, index) if wraps else index
    inside = (index >= 0) & (index < rows)
    return np.where(inside, index, 0), inside


def _nothing(x: Array) -> float | int:
    """What stands where there is no row."""
    return -1 if x.dtype.kind == "i" else np.nan


def take(op: Op, x: Array, index: Array) -> Array:
    """Wrong rows are NaN."""
    row, inside = _rows(index, x.shape[1], op.bool_attr("wraps"))
    return np.asarray(np.where(inside[None, ..., None], x[:, row], _nothing(x)), x.dtype)


def take_grad(op: Op, g: Array, index: Array) -> Array:
    """Sums in float64, in the order of the indices."""
    left, rows, right = op.result.type.shape
    row, inside = _rows(index.reshape(-1), rows, op.bool_attr("wraps"))
    dx = np.zeros((rows, left, right), np.float64)
    flat = g.reshape(left, -1, right).astype(np.float64).transpose(1, 0, 2)
    np.add.at(dx, row[inside], flat[inside])
    return dx.transpose(1, 0, 2)


def gather(op: Op, x: Array, index: Array) -> Array:
    """Wrong rows are NaN."""
    row, inside = _rows(index, x.shape[1], False)
    return np.asarray(np.where(inside, np.take_along_axis(x, row, 1), _nothing(x)), x.dtype)


def gather_grad(op: Op, g: Array, index: Array) -> Array:
    """Sums in float64."""
    dx = np.zeros(op.result.type.shape, np.float64)
    row, inside = _rows(index, dx.shape[1], False)
    for k in range(index.shape[1]):
        at = np.nonzero(inside[:, k])
        dx[at[0], row[:, k][at], at[1]] += g[:, k][at]
    return dx


def scatter(op: Op, x: Array, index: Array, y: Array) -> Array:
    """One after another along dimension 1."""
    z = np.array(x)
    row, inside = _rows(index, z.shape[1], False)
    for k in range(index.shape[1]):
        at = np.nonzero(inside[:, k])
        z[at[0], row[:, k][at], at[1]] = y[:, k][at]
    if z.dtype.kind != "i":
        z[:, 0] = np.where(inside.all(1), z[:, 0], np.nan)
    return z


def place(op: Op, *index: Array) -> Array:
    """Row-major; -1 where one of the indices names no row."""
    total, every = np.zeros_like(index[0]), np.ones(index[0].shape, bool)
    for i, size in zip(index, op.ints_attr("sizes"), strict=True):
        row, inside = _rows(i, size, op.bool_attr("wraps"))
        total, every = total * size + row, every & inside
    return np.asarray(np.where(every, total, -1))


def _keys(x: Array) -> tuple[Array, Array]:
    """Numbers in whose order NaN comes last."""
    return np.where(np.isnan(x), np.inf, x), np.isnan(x)


def order(op: Op, x: Array) -> Array:
    """Equal numbers stay in their order."""
    numbers, nan = _keys(x)
    down = op.bool_attr("descending")
    keys = (-numbers, ~nan) if down else (numbers, nan)
    return np.asarray(np.lexsort((keys[0], keys[1]), axis=1))


def argmax(op: Op, x: Array) -> Array:
    """NaN is larger than infinity."""
    numbers, nan = _keys(x)
    first = nan.argmax(axis=1)
    return np.asarray(np.where(nan.any(axis=1), first, numbers.argmax(axis=1)))


def cumsum(op: Op, x: Array) -> Array:
    """In float64, or in integers."""
    wide = x if x.dtype.kind == "i" else x.astype(np.float64)
    return np.asarray(np.cumsum(wide, axis=1, dtype=wide.dtype))


GATHER: dict[str, Meaning] = {
    name: on_numbers(function)
    for name, function in (
        *(("take", take), ("take_grad", take_grad), ("gather", gather)),
        *(("gather_grad", gather_grad), ("scatter", scatter), ("place", place)),
        *(("order", order), ("argmax", argmax), ("cumsum", cumsum)),
    )
}
