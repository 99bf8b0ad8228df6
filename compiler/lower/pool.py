"""Lowering of pooling and its backward; a winner is kept as a place in its window, no index."""

from __future__ import annotations

from math import prod

from ..ir import Attr
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
from .joint import Arg, Call


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
    b.bind(call, *b.emit("max_pool2d", (b.of(x),), results, **window, dilation=ints(dilation)))


def max_pool_backward(b: Builder, call: Call) -> None:
    """The gradient goes to the winners."""
    g, _, kernel, stride, padding, dilation, _, where = call.args
    window = _window(kernel, stride, padding)
    inputs, shape = (b.of(g), b.of(where)), result_shape(call)
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
