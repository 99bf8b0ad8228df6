"""Layer ops for torch's dispatcher: a layer call is one forward op, one dX op and one dW op.

Registered with ``torch.library`` before autograd runs, so that the joint graph names each layer
and keeps its data gradient, weight gradient and bias gradient as ops of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

aten = torch.ops.aten
qtr = torch.ops.qtr
library = Library("qtr", "DEF")
GEOMETRY = "int[] stride, int[] padding, int[] dilation, int groups, str layer"
library.define(f"conv(Tensor x, Tensor w, Tensor? b, {GEOMETRY}) -> Tensor")
library.define(f"conv_dx(Tensor g, Tensor x_like, Tensor w, {GEOMETRY}) -> Tensor")
library.define(f"conv_dw(Tensor g, Tensor x, Tensor w_like, {GEOMETRY}) -> Tensor")
library.define("linear(Tensor x, Tensor w, Tensor? b, str layer) -> Tensor")
library.define("linear_dx(Tensor g, Tensor w, str layer) -> Tensor")
library.define("linear_dw(Tensor g, Tensor x, str layer) -> Tensor")
library.define("bias_grad(Tensor g, str layer) -> Tensor")
library.define(f"conv_t(Tensor x, Tensor w, Tensor? b, int[] size, {GEOMETRY}) -> Tensor")
library.define(f"conv_t_dx(Tensor g, Tensor w, {GEOMETRY}) -> Tensor")
library.define(f"conv_t_dw(Tensor g, Tensor x, Tensor w_like, {GEOMETRY}) -> Tensor")

Ints = list[int]


def _conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    layer: str,
) -> Tensor:
    return torch.conv2d(x, w, b, stride, pad, dilation, groups)


def _conv_backward(
    g: Tensor,
    x: Tensor,
    w: Tensor,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    mask: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    grads: tuple[Tensor, Tensor, Tensor] = aten.convolution_backward(
        g, x, w, None, stride, pad, dilation, False, [0, 0], groups, mask
    )
    return grads


def _conv_dx(
    g: Tensor,
    x: Tensor,
    w: Tensor,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    layer: str,
) -> Tensor:
    return _conv_backward(g, x, w, stride, pad, dilation, groups, [True, False, False])[0]


def _conv_dw(
    g: Tensor,
    x: Tensor,
    w: Tensor,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    layer: str,
) -> Tensor:
    return _conv_backward(g, x, w, stride, pad, dilation, groups, [False, True, False])[1]


def _linear(x: Tensor, w: Tensor, b: Tensor | None, layer: str) -> Tensor:
    y = x @ w.t()
    return y if b is None else y + b


def _linear_dx(g: Tensor, w: Tensor, layer: str) -> Tensor:
    return g @ w


def _linear_dw(g: Tensor, x: Tensor, layer: str) -> Tensor:
    return g.t() @ x


def _conv_t(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    size: Ints,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    layer: str,
) -> Tensor:
    like = x.new_empty((x.shape[0], w.shape[1] * groups, *size))
    mask = [True, False, False]
    y = _conv_backward(x, like, w, stride, pad, dilation, groups, mask)[0]
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def _conv_t_dx(
    g: Tensor, w: Tensor, stride: Ints, pad: Ints, dilation: Ints, groups: int, layer: str
) -> Tensor:
    return torch.conv2d(g, w, None, stride, pad, dilation, groups)


def _conv_t_dw(
    g: Tensor,
    x: Tensor,
    w: Tensor,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    layer: str,
) -> Tensor:
    return _conv_backward(x, g, w, stride, pad, dilation, groups, [False, True, False])[1]


def _bias_grad(g: Tensor, layer: str) -> Tensor:
    return g.sum([0, *range(2, g.ndim)])


def _fake_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: Ints,
    pad: Ints,
    dilation: Ints,
    groups: int,
    layer: str,
) -> Tensor:
    return aten.convolution(x, w, b, stride, pad, dilation, False, [0, 0], groups)  # type: ignore[no-any-return]


KERNELS = {
    "conv": _conv,
    "conv_dx": _conv_dx,
    "conv_dw": _conv_dw,
    "linear": _linear,
    "linear_dx": _linear_dx,
    "linear_dw": _linear_dw,
    "bias_grad": _bias_grad,
    "conv_t": _conv_t,
    "conv_t_dx": _conv_t_dx,
    "conv_t_dw": _conv_t_dw,
}
SHAPES: dict[str, Callable[..., Tensor]] = {
    "conv": _fake_conv,
    "conv_dx": lambda g, x, w, *rest: torch.empty_like(x),
    "conv_dw": lambda g, x, w, *rest: torch.empty_like(w),
    "linear": lambda x, w, b, layer: x.new_empty((x.shape[0], w.shape[0])),
    "linear_dx": lambda g, w, layer: g.new_empty((g.shape[0], w.shape[1])),
    "linear_dw": lambda g, x, layer: g.new_empty((g.shape[1], x.shape[1])),
    "bias_grad": lambda g, layer: g.new_empty((g.shape[1],)),
    "conv_t": lambda x, w, b, size, *rest: x.new_empty((x.shape[0], w.shape[1] * rest[-2], *size)),
    "conv_t_dx": lambda g, w, *rest: aten.convolution(
        g, w, None, *rest[:3], False, [0, 0], rest[3]
    ),
    "conv_t_dw": lambda g, x, w, *rest: torch.empty_like(w),
}


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, b, *rest = inputs
    ctx.save_for_backward(x, w)
    ctx.rest, ctx.has_bias = rest, b is not None


def _bias_part(ctx: Any, g: Tensor) -> Tensor | None:
    wanted = ctx.has_bias and ctx.needs_input_grad[2]
    return qtr.bias_grad(g, ctx.rest[-1]) if wanted else None


def _backward_of_conv(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    dx = qtr.conv_dx(g, x, w, *ctx.rest) if ctx.needs_input_grad[0] else None
    dw = qtr.conv_dw(g, x, w, *ctx.rest) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_part(ctx, g), None, None, None, None, None


def _backward_of_linear(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    dx = qtr.linear_dx(g, w, *ctx.rest) if ctx.needs_input_grad[0] else None
    dw = qtr.linear_dw(g, x, *ctx.rest) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_part(ctx, g), None


def _save_transposed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, b, _, *rest = inputs
    ctx.save_for_backward(x, w)
    ctx.rest, ctx.has_bias = rest, b is not None


def _backward_of_conv_t(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    dx = qtr.conv_t_dx(g, w, *ctx.rest) if ctx.needs_input_grad[0] else None
    dw = qtr.conv_t_dw(g, x, w, *ctx.rest) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_part(ctx, g), None, None, None, None, None, None


for _name, _kernel in KERNELS.items():
    library.impl(_name, _kernel, "CompositeExplicitAutograd")
    register_fake(f"qtr::{_name}", SHAPES[_name], lib=library)
register_autograd("qtr::conv", _backward_of_conv, setup_context=_save, lib=library)
register_autograd("qtr::linear", _backward_of_linear, setup_context=_save, lib=library)
register_autograd("qtr::conv_t", _backward_of_conv_t, setup_context=_save_transposed, lib=library)
