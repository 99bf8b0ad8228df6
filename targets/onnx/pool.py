"""Pooling in ONNX; the winners' places, which only gradients read, are not in the graph."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ...compiler.types import Shape
from ..reference.pool import adaptive_cells, divisors
from ..reference.window import Window
from .frame import Context, Lower
from .graph import OnnxAttribute


def _pads(c: Context, window: Window) -> tuple[int, ...]:
    """What stands ahead of rows and columns, then behind: as far as the last window reaches."""
    sizes = zip(window.extent, window.padding, window.size, strict=True)
    pads = (*window.padding, *(extent - p - n for extent, p, n in sizes))
    reach = (d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilation, strict=True))
    if any(p >= r for p, r in zip(pads, [*reach] * 2, strict=True)):
        c.refuse("has windows outside of the data, which ONNX has not; use less padding")
    return pads


def _window(op: Op) -> Window:
    return Window.of(op, op.inputs[0].type.shape, op.result.type.shape, op.ints_attr("kernel"))


def max_pool2d(c: Context, op: Op) -> tuple[str | None, ...]:
    """MaxPool."""
    how: dict[str, OnnxAttribute] = {
        "kernel_shape": op.ints_attr("kernel"),
        "strides": op.ints_attr("stride"),
        "dilations": op.ints_attr("dilation"),
        "pads": _pads(c, _window(op)),
    }
    return c.g.op("MaxPool", c.real(op.inputs[0]), **how), None


def avg_pool2d(c: Context, op: Op) -> str:
    """AveragePool over a border of zeros; another divisor than the window's size comes behind."""
    window = _window(op)
    mean = c.g.op(
        "AveragePool",
        c.real(op.inputs[0]),
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=_pads(c, window),
        count_include_pad=1,
    )
    taps, by = window.kernel[0] * window.kernel[1], divisors(op, window)
    if np.all(by == taps):
        return mean
    return c.g.op("Div", c.g.op("Mul", mean, c.g.f32(taps)), c.g.constant(by))


def adaptive_avg_pool2d(c: Context, op: Op) -> str:
    """A mean of rows, then of columns."""
    x, (h, w), (p, q) = _planes(c, op)
    if (p, q) == (1, 1):
        return c.g.op("ReduceMean", x, c.g.ints(2, 3), keepdims=1)
    if h % p == 0 and w % q == 0:
        size = (h // p, w // q)
        return c.g.op("AveragePool", x, kernel_shape=size, strides=size)
    rows, columns = _means(h, p), _means(w, q)
    return c.g.op("MatMul", c.g.op("MatMul", c.g.constant(rows), x), c.g.constant(columns.T))


def adaptive_max_pool2d(c: Context, op: Op) -> tuple[str | None, ...]:
    """The largest of rows, then of columns."""
    x, (h, w), (p, q) = _planes(c, op)
    for dim, size, places in ((2, h, p), (3, w, q)):
        parts = [
            c.g.op("ReduceMax", _part(c, x, dim, cell), c.g.ints(dim), keepdims=1)
            for cell in adaptive_cells(size, places)
        ]
        x = parts[0] if len(parts) == 1 else c.g.op("Concat", *parts, axis=dim)
    return x, None


def _part(c: Context, x: str, dim: int, cell: slice) -> str:
    return c.g.op("Slice", x, *(c.g.ints(n) for n in (cell.start, cell.stop, dim)))


def _planes(c: Context, op: Op) -> tuple[str, Shape, Shape]:
    return c.real(op.inputs[0]), op.inputs[0].type.shape[2:], op.result.type.shape[2:]


def _means(size: int, places: int) -> np.ndarray:
    made = np.zeros((places, size), np.float32)
    for row, cell in zip(made, adaptive_cells(size, places), strict=True):
        row[cell] = np.float32(1) / np.float32(cell.stop - cell.start)
    return made


POOL: dict[str, Lower] = {
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
}
