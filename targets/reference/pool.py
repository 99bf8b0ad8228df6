"""Reference of pooling.

Sums over windows, and of the windows around an element, are in f32 and in order: taps row by row,
windows row by row. Adaptive averages, whose window may be a whole plane, are in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from ...compiler.ir import Op
from ...compiler.types import Shape
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers, wide
from .window import Window


def _window(op: Op, plane: Shape, places: Shape) -> Window:
    return Window.of(op, plane, places, op.ints_attr("kernel"))


def max_pool2d(op: Op, x: Array) -> tuple[Array, ...]:
    """As torch: a tap wins if it is larger or NaN, so that the last NaN of a window stays."""
    window = _window(op, x.shape, op.result.type.shape)
    whole = window.border(x)
    real = window.border(np.ones_like(x, bool), False)
    best = np.full(op.result.type.shape, -np.inf, np.float32)
    where = np.full(best.shape, -1, np.int32)
    pairs = zip(window.taps(whole), window.taps(real), strict=True)
    for i, (tap, exists) in enumerate(pairs):
        wins = exists & ((where < 0) | (tap > best) | np.isnan(tap))
        best, where = np.where(wins, tap, best), np.where(wins, i, where)
    return best, np.maximum(where, 0)


def max_pool2d_grad(op: Op, g: Array, where: Array) -> Array:
    """Each window sends its gradient to its winner."""
    window = _window(op, op.result.type.shape, g.shape)
    whole = np.zeros((*g.shape[:2], *window.extent), np.float32)
    taps = window.taps_backwards(whole)
    for i, tap in zip(reversed(range(len(taps))), taps, strict=True):
        tap += np.where(where == i, g, np.float32(0))
    return window.inside(whole)


def avg_pool2d(op: Op, x: Array) -> Array:
    """The sum over the divisor."""
    window = _window(op, x.shape, op.result.type.shape)
    total = np.zeros(op.result.type.shape, np.float32)
    for tap in window.taps(window.border(x)):
        total += tap
    return total / divisors(op, window)


def avg_pool2d_grad(op: Op, g: Array) -> Array:
    """Each window sends gradient / divisor to its taps."""
    window = _window(op, op.result.type.shape, g.shape)
    whole = np.zeros((*g.shape[:2], *window.extent), np.float32)
    share = g / divisors(op, window)
    for tap in window.taps_backwards(whole):
        tap += share
    return window.inside(whole)


def divisors(op: Op, window: Window) -> Array:
    """What each place divides by, rows x columns: ``divisor``, or the elements in its window.

    Padding counts with ``count_include_pad``; what ceil mode sees beyond the padding never does.
    """
    if divisor := op.int_attr("divisor"):
        return np.full(window.places, divisor, np.float32)
    counts = []
    for i in range(2):
        size, padding = window.size[i], window.padding[i]
        start = np.arange(window.places[i]) * window.stride[i] - padding
        end = np.minimum(start + window.kernel[i], size + padding)
        if not op.bool_attr("count_include_pad"):
            start, end = np.maximum(start, 0), np.minimum(end, size)
        counts.append(end - start)
    return np.outer(*counts).astype(np.float32)


def adaptive_cells(size: int, places: int) -> list[slice]:
    """The adaptive windows along one dimension."""
    return [slice(i * size // places, -(-(i + 1) * size // places)) for i in range(places)]


def _cells(plane: Shape, places: Shape) -> Iterator[tuple[int, int, slice, slice]]:
    """Adaptive windows, row by row: place (i, j) and its rows and columns of the plane."""
    along = (adaptive_cells(n, m) for n, m in zip(plane[-2:], places[-2:], strict=True))
    for (i, rows), (j, columns) in product(*(enumerate(cells) for cells in along)):
        yield i, j, rows, columns


def adaptive_avg_pool2d(op: Op, x: Array) -> Array:
    """Means in float64."""
    y = np.empty(op.result.type.shape)
    for i, j, rows, columns in _cells(x.shape, y.shape):
        y[..., i, j] = wide(x[..., rows, columns]).mean(axis=(-2, -1))
    return y


def adaptive_avg_pool2d_grad(op: Op, g: Array) -> Array:
    """Each window sends gradient / size to its elements."""
    dx = np.zeros(op.result.type.shape, np.float32)
    for i, j, rows, columns in _cells(dx.shape, g.shape):
        cell = dx[..., rows, columns]
        cell += g[..., i, j, None, None] / np.float32(cell.shape[-2] * cell.shape[-1])
    return dx


def adaptive_max_pool2d(op: Op, x: Array) -> tuple[Array, ...]:
    """``where`` is the winner's place in the plane; of several NaNs the last wins, as in torch."""
    y = np.empty(op.result.type.shape, np.float32)
    where = np.empty(y.shape, np.int32)
    place = np.arange(x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:])
    for i, j, rows, columns in _cells(x.shape, y.shape):
        seen = x[..., rows, columns].reshape(*x.shape[:-2], -1)
        nan = np.isnan(seen)
        last_nan = seen.shape[-1] - 1 - nan[..., ::-1].argmax(axis=-1)
        winner = np.where(nan.any(axis=-1), last_nan, seen.argmax(axis=-1))
        y[..., i, j] = np.take_along_axis(seen, winner[..., None], axis=-1)[..., 0]
        where[..., i, j] = place[rows, columns].ravel()[winner]
    return y, where


def adaptive_max_pool2d_grad(op: Op, g: Array, where: Array) -> Array:
    """Each window sends its gradient to its winner."""
    shape = op.result.type.shape
    dx = np.zeros((shape[0] * shape[1], shape[2] * shape[3]), np.float32)
    planes = np.arange(len(dx))[:, None]
    np.add.at(dx, (planes, where.reshape(len(dx), -1).astype(int)), g.reshape(len(dx), -1))
    return dx.reshape(shape)


POOL: dict[str, Meaning] = {
    "max_pool2d": on_numbers(max_pool2d),
    "max_pool2d_grad": on_numbers(max_pool2d_grad),
    "avg_pool2d": on_numbers(avg_pool2d),
    "avg_pool2d_grad": on_numbers(avg_pool2d_grad),
    "adaptive_avg_pool2d": on_numbers(adaptive_avg_pool2d),
    "adaptive_avg_pool2d_grad": on_numbers(adaptive_avg_pool2d_grad),
    "adaptive_max_pool2d": on_numbers(adaptive_max_pool2d),
    "adaptive_max_pool2d_grad": on_numbers(adaptive_max_pool2d_grad),
}
