"""Layer ops for torch's dispatcher: a layer call is one forward op, one dX op and one dW op.

Registered with ``torch.library`` before autograd runs, so that the joint graph names each layer
and keeps its data gradient, weight gradient and bias gradient as ops of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

from ..errors import CaptureError

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
library.define("product(Tensor a, Tensor b, str layer) -> Tensor")
library.define("product_da(Tensor g, Tensor b, str layer) -> Tensor")
library.define("product_db(Tensor g, Tensor a, str layer) -> Tensor")
library.define("bias_grad(Tensor g, str layer) -> Tensor")
library.define(f"conv_t(Tensor x, Tensor w, Tensor? b, int[] size, {GEOMETRY}) -> Tensor")
library.define(f"conv_t_dx(Tensor g, Tensor w, {GEOMETRY}) -> Tensor")
library.define(f"conv_t_dw(Tensor g, Tensor x, Tensor w_like, {GEOMETRY}) -> Tensor")

Ints = list[int]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution's settings, in the order of ``GEOMETRY``, and its three products.

    A transposed convolution has the same products in other roles. ATen's ops, because those of
    ``torch.nn.functional`` are replaced while a graph is traced.
    """

    stride: Ints
    padding: Ints
    dilation: Ints
    groups: int
    layer: str

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """y"""
        y: Tensor = aten.convolution(x, w, b, *self._arguments())
        return y

    def dx(self, g: Tensor, x_like: Tensor, w: Tensor) -> Tensor:
        """The gradient of x, of which only the shape is read."""
        return self._backward(g, x_like, w, [True, False, False])[0]

    def dw(self, g: Tensor, x: Tensor, w_like: Tensor) -> Tensor:
        """The gradient of w, of which only the shape is read."""
        return self._backward(g, x, w_like, [False, True, False])[1]

    def _backward(self, g: Tensor, x: Tensor, w: Tensor, wanted: list[bool]) -> list[Tensor]:
        return list(aten.convolution_backward(g, x, w, None, *self._arguments(), wanted))

    def _arguments(self) -> tuple[Any, ...]:
        transposed, output_padding = False, [0, 0]
        sizes = self.stride, self.padding, self.dilation
        return (*sizes, transposed, output_padding, self.groups)


def _conv(x: Tensor, w: Tensor, b: Tensor | None, *geometry: Any) -> Tensor:
    return Convolution(*geometry).forward(x, w, b)


def _conv_dx(g: Tensor, x_like: Tensor, w: Tensor, *geometry: Any) -> Tensor:
    return Convolution(*geometry).dx(g, x_like, w)


def _conv_dw(g: Tensor, x: Tensor, w_like: Tensor, *geometry: Any) -> Tensor:
    return Convolution(*geometry).dw(g, x, w_like)


def _conv_t(x: Tensor, w: Tensor, b: Tensor | None, size: Ints, *geometry: Any) -> Tensor:
    y = Convolution(*geometry).dx(x, _conv_t_shape(x, w, b, size, *geometry), w)
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def _conv_t_shape(x: Tensor, w: Tensor, b: Tensor | None, size: Ints, *geometry: Any) -> Tensor:
    channels = w.shape[1] * Convolution(*geometry).groups
    return x.new_empty((x.shape[0], channels, *size))


def _conv_t_dx(g: Tensor, w: Tensor, *geometry: Any) -> Tensor:
    return Convolution(*geometry).forward(g, w)


def _conv_t_dw(g: Tensor, x: Tensor, w_like: Tensor, *geometry: Any) -> Tensor:
    return Convolution(*geometry).dw(x, g, w_like)


def _linear(x: Tensor, w: Tensor, b: Tensor | None, layer: str) -> Tensor:
    y = x @ w.t()
    return y if b is None else y + b


def _linear_dx(g: Tensor, w: Tensor, layer: str) -> Tensor:
    return g @ w


def _linear_dw(g: Tensor, x: Tensor, layer: str) -> Tensor:
    return g.t() @ x


def _product(a: Tensor, b: Tensor, layer: str) -> Tensor:
    return aten.bmm(a, b)  # type: ignore[no-any-return]


def _product_da(g: Tensor, b: Tensor, layer: str) -> Tensor:
    return aten.bmm(g, b.mT)  # type: ignore[no-any-return]


def _product_db(g: Tensor, a: Tensor, layer: str) -> Tensor:
    return aten.bmm(a.mT, g)  # type: ignore[no-any-return]


def _bias_grad(g: Tensor, layer: str) -> Tensor:
    return g.sum([0, *range(2, g.ndim)])


KERNELS = {
    "conv": _conv,
    "conv_dx": _conv_dx,
    "conv_dw": _conv_dw,
    "linear": _linear,
    "linear_dx": _linear_dx,
    "linear_dw": _linear_dw,
    "product": _product,
    "product_da": _product_da,
    "product_db": _product_db,
    "bias_grad": _bias_grad,
    "conv_t": _conv_t,
    "conv_t_dx": _conv_t_dx,
    "conv_t_dw": _conv_t_dw,
}
SHAPES: dict[str, Callable[..., Tensor]] = {
    "conv": _conv,
    "conv_dx": lambda g, x, w, *rest: torch.empty_like(x),
    "conv_dw": lambda g, x, w, *rest: torch.empty_like(w),
    "linear": lambda x, w, b, layer: x.new_empty((x.shape[0], w.shape[0])),
    "linear_dx": lambda g, w, layer: g.new_empty((g.shape[0], w.shape[1])),
    "linear_dw": lambda g, x, layer: g.new_empty((g.shape[1], x.shape[1])),
    "product": lambda a, b, layer: a.new_empty((*a.shape[:2], b.shape[2])),
    "product_da": lambda g, b, layer: g.new_empty((*g.shape[:2], b.shape[1])),
    "product_db": lambda g, a, layer: g.new_empty((g.shape[0], a.shape[2], g.shape[2])),
    "bias_grad": lambda g, layer: g.new_empty((g.shape[1],)),
    "conv_t": _conv_t_shape,
    "conv_t_dx": _conv_t_dx,
    "conv_t_dw": lambda g, x, w, *rest: torch.empty_like(w),
}


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, b, *ctx.rest = inputs
    ctx.save_for_backward(x, w)
    ctx.has_bias = b is not None


def _bias_part(ctx: Any, g: Tensor) -> Tensor | None:
    wanted = ctx.has_bias and ctx.needs_input_grad[2]
    return qtr.bias_grad(g, ctx.rest[-1]) if wanted else None


def _backward_of_conv(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    dx = qtr.conv_dx(g, x, w, *ctx.rest) if ctx.needs_input_grad[0] else None
    dw = qtr.conv_dw(g, x, w, *ctx.rest) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_part(ctx, g), *(None for _ in ctx.rest)


def _backward_of_linear(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    dx = qtr.linear_dx(g, w, *ctx.rest) if ctx.needs_input_grad[0] else None
    dw = qtr.linear_dw(g, x, *ctx.rest) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_part(ctx, g), *(None for _ in ctx.rest)


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, ctx.layer = inputs
    ctx.save_for_backward(a, b)


def _backward_of_product(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    da = qtr.product_da(g, b, ctx.layer) if ctx.needs_input_grad[0] else None
    db = qtr.product_db(g, a, ctx.layer) if ctx.needs_input_grad[1] else None
    return da, db, None


def _backward_of_conv_t(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    _size, *geometry = ctx.rest
    dx = qtr.conv_t_dx(g, w, *geometry) if ctx.needs_input_grad[0] else None
    dw = qtr.conv_t_dw(g, x, w, *geometry) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_part(ctx, g), *(None for _ in ctx.rest)


def _keep_layer(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.layer = inputs[-1]


def _refuse_twice(ctx: Any, g: Tensor) -> NoReturn:
    raise CaptureError(
        f"layer {ctx.layer!r} is differentiated twice, as a penalty on gradients does; a compiled "
        "step has first gradients only: detach() the gradient, or leave the penalty out"
    )


BACKWARD = KERNELS.keys() - {"conv", "linear", "conv_t", "product"}
for _name, _kernel in KERNELS.items():
    library.impl(_name, _kernel, "CompositeExplicitAutograd")
    register_fake(f"qtr::{_name}", SHAPES[_name], lib=library)
for _name in BACKWARD:
    register_autograd(f"qtr::{_name}", _refuse_twice, setup_context=_keep_layer, lib=library)
register_autograd("qtr::conv", _backward_of_conv, setup_context=_save, lib=library)
register_autograd("qtr::linear", _backward_of_linear, setup_context=_save, lib=library)
register_autograd("qtr::product", _backward_of_product, setup_context=_save_product, lib=library)
register_autograd("qtr::conv_t", _backward_of_conv_t, setup_context=_save, lib=library)
