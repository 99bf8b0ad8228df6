"""Lowering of pooling and its backward; a winner is kept as a place in its window, no index."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from ..ir import Attr, Value
from .builder import (
    Builder,
    CallLowering,
    f32,
    ints,
    refuse,
    result_shape,
    shape_of,
    winners,
)
from .gather import take
from .joint import Arg, Call, JointTensor
from .shape import viewed
from .whole import made_whole


def _image(b: Builder, call: Call) -> None:
    if len(result_shape(call)) != 4:
        raise refuse(call, "works on a single image; only batches NxCxHxW are supported")


def _window(kernel: Arg, stride: Arg, padding: Arg) -> dict[str, Attr]:
    size = ints(kernel)
    return {"kernel": size, "stride": ints(stride, default=size), "padding": ints(padding)}


def max_pool(b: Builder, call: Call) -> None:
    """Maximum of each window and where it was; rounding up shows in the result's shape."""
    _image(b, call)
    x, kernel, stride, padding, dilation, _ = call.args
    window = _window(kernel, stride, padding)
    shape = result_shape(call)
    results = [("max_pool2d", f32(shape)), ("where", winners(shape, prod(ints(kernel))))]
    attributes = {**window, "dilation": ints(dilation)}
    made, where = b.emit("max_pool2d", (b.of(x),), results, **attributes)
    b.bind(call, made)
    places = call.results[1]
    assert places is not None
    del b.unread[places]
    b.winners[places] = where
    b.late[places] = partial(_places, b, call)


def _places(b: Builder, call: Call) -> Value:
    """Where in its plane each maximum is, for what is no backward of the pooling."""
    x, kernel, stride, padding, dilation, _ = call.args
    v, shape, size = b.of(x), result_shape(call), ints(kernel)
    steps = zip(*(ints(stride, default=size), ints(padding), ints(dilation), size), strict=True)
    below = [
        np.arange(made)[:, None] * by - pad + np.arange(taps) * apart
        for made, (by, pad, apart, taps) in zip(shape[2:], steps, strict=True)
    ]
    rows, columns = below[0][:, None, :, None], below[1][None, :, None, :]
    height, width = shape_of(v)[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = np.where(inside, rows * width + columns, -1).reshape(prod(shape[2:]), prod(size))
    first = np.take_along_axis(flat, (flat >= 0).argmax(1)[:, None], 1)
    table = np.where(flat >= 0, flat, first).astype(np.int64)  # padding wins nowhere
    planes = viewed(b, v, (prod(shape[:2]), height * width))
    windows = take(b, planes, b.fixed_value(call, table), 1, wraps=False)
    thin = viewed(b, windows, (prod(shape), prod(size), 1))
    best = made_whole(b, "argmax", (thin,), "argmax", (prod(shape), 1))
    best = viewed(b, best, shape_of(windows)[:2])
    starts = b.fixed_value(call, np.arange(0, table.size, table.shape[1]).astype(np.int64))
    index = made_whole(b, "whole", (best, starts), "index", shape_of(best), function="add")
    known = b.fixed_value(call, table.reshape(-1))
    return viewed(b, take(b, known, index, 0, wraps=False), shape)


def max_pool_backward(b: Builder, call: Call) -> None:
    """The gradient goes to the winners."""
    g, _, kernel, stride, padding, dilation, _, where = call.args
    window = _window(kernel, stride, padding)
    assert isinstance(where, JointTensor)
    inputs, shape = (b.of(g), b.winners[where]), result_shape(call)
    dx = b.one("max_pool2d_grad", inputs, "max_pool2d.dx", shape, **window, dilation=ints(dilation))
    b.bind(call, dx)


def _averaging(args: tuple[Arg, ...]) -> dict[str, Attr]:
    kernel, stride, padding, _, include, divisor = args
    whole: dict[str, Attr] = dict(_window(kernel, stride, padding))
    whole["count_include_pad"] = bool(include)
    whole["divisor"] = divisor if isinstance(divisor, int) else 0
    return whole


def avg_pool(b: Builder, call: Call) -> None:
    """Mean of each window."""
    _image(b, call)
    x, *rest = call.args
    shape = result_shape(call)
    b.bind(call, b.one("avg_pool2d", (b.of(x),), "avg_pool2d", shape, **_averaging(tuple(rest))))


def avg_pool_backward(b: Builder, call: Call) -> None:
    """Each window's gradient spread over it."""
    g, _, *rest = call.args
    attributes = _averaging(tuple(rest))
    shape = result_shape(call)
    b.bind(call, b.one("avg_pool2d_grad", (b.of(g),), "avg_pool2d.dx", shape, **attributes))


def adaptive_avg_pool(b: Builder, call: Call) -> None:
    """Mean over a grid of a given size."""
    _image(b, call)
    inputs, part = (b.of(call.args[0]),), "adaptive_avg_pool2d"
    b.bind(call, b.one(part, inputs, part, result_shape(call)))


def adaptive_avg_pool_backward(b: Builder, call: Call) -> None:
    """Each cell's gradient spread over it."""
    part = "adaptive_avg_pool2d.dx"
    inputs = (b.of(call.args[0]),)
    b.bind(call, b.one("adaptive_avg_pool2d_grad", inputs, part, result_shape(call)))


def adaptive_max_pool(b: Builder, call: Call) -> None:
    """Maximum over a grid of a given size and where in the plane it was."""
    _image(b, call)
    x, shape = b.of(call.args[0]), result_shape(call)
    plane = prod(shape_of(x)[2:])
    results = [("adaptive_max_pool2d", f32(shape)), ("where", winners(shape, plane))]
    b.bind(call, *b.emit("adaptive_max_pool2d", (x,), results))


def adaptive_max_pool_backward(b: Builder, call: Call) -> None:
    """The gradient goes to the winners."""
    g, _, where = call.args
    inputs, part = (b.of(g), b.of(where)), "adaptive_max_pool2d.dx"
    b.bind(call, b.one("adaptive_max_pool2d_grad", inputs, part, result_shape(call)))


POOL: dict[str, CallLowering] = {
    "aten.max_pool2d_with_indices.default": max_pool,
    "aten.max_pool2d_with_indices_backward.default": max_pool_backward,
    "aten.avg_pool2d.default": avg_pool,
    "aten.avg_pool2d_backward.default": avg_pool_backward,
    "aten._adaptive_avg_pool2d.default": adaptive_avg_pool,
    "aten._adaptive_avg_pool2d_backward.default": adaptive_avg_pool_backward,
    "aten.adaptive_max_pool2d.default": adaptive_max_pool,
    "aten.adaptive_max_pool2d_backward.default": adaptive_max_pool_backward,
}
