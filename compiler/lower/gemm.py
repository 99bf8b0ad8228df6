"""Lowering of layer ops: convolutions and linears, each with dX, dW and bias gradient."""

from __future__ import annotations

from ..ir import Attr, Value
from .builder import Builder, CallLowering, ints, result_shape, shape_of
from .joint import Arg, Call
from .shape import viewed


def _geometry(args: tuple[Arg, ...]) -> dict[str, Attr]:
    stride, padding, dilation, groups, _ = args
    assert isinstance(groups, int)
    return {
        "stride": ints(stride),
        "padding": ints(padding),
        "dilation": ints(dilation),
        "groups": groups,
    }


def _add_bias(b: Builder, y: Value, bias: Arg) -> Value:
    return y if bias is None else b.one("add_bias", (y, b.of(bias)), "biased", shape_of(y))


def conv(b: Builder, call: Call) -> None:
    """``qtr.conv`` -> conv2d, and add_bias where there is a bias."""
    x, w, bias, *rest = call.args
    shape = result_shape(call)
    y = b.one("conv2d", (b.of(x), b.of(w)), "y", shape, **_geometry(tuple(rest)))
    b.bind(call, _add_bias(b, y, bias))


def conv_dx(b: Builder, call: Call) -> None:
    """``qtr.conv_dx`` -> conv2d_input_grad."""
    g, _, w, *rest = call.args
    inputs, shape = (b.of(g), b.of(w)), result_shape(call)
    b.bind(call, b.one("conv2d_input_grad", inputs, "dx", shape, **_geometry(tuple(rest))))


def conv_dw(b: Builder, call: Call) -> None:
    """``qtr.conv_dw`` -> conv2d_weight_grad."""
    g, x, _, *rest = call.args
    inputs, shape = (b.of(g), b.of(x)), result_shape(call)
    b.bind(call, b.one("conv2d_weight_grad", inputs, "dw", shape, **_geometry(tuple(rest))))


def conv_t(b: Builder, call: Call) -> None:
    """``qtr.conv_t`` -> conv2d_transpose, and add_bias where there is a bias."""
    x, w, bias, _, *rest = call.args
    shape = result_shape(call)
    y = b.one("conv2d_transpose", (b.of(x), b.of(w)), "y", shape, **_geometry(tuple(rest)))
    b.bind(call, _add_bias(b, y, bias))


def conv_t_dx(b: Builder, call: Call) -> None:
    """``qtr.conv_t_dx`` -> conv2d_transpose_input_grad."""
    g, w, *rest = call.args
    inputs, shape = (b.of(g), b.of(w)), result_shape(call)
    kind = "conv2d_transpose_input_grad"
    b.bind(call, b.one(kind, inputs, "dx", shape, **_geometry(tuple(rest))))


def conv_t_dw(b: Builder, call: Call) -> None:
    """``qtr.conv_t_dw`` -> conv2d_transpose_weight_grad."""
    g, x, _, *rest = call.args
    inputs, shape = (b.of(g), b.of(x)), result_shape(call)
    kind = "conv2d_transpose_weight_grad"
    b.bind(call, b.one(kind, inputs, "dw", shape, **_geometry(tuple(rest))))


def product(b: Builder, call: Call) -> None:
    """Products of matrices that are no layer: ``bmm``, and ``mm`` as a batch of one."""
    first, second = (b.of(a) for a in call.args[:2])
    shape = result_shape(call)
    if len(shape) == 2:
        first, second = (viewed(b, v, (1, *shape_of(v))) for v in (first, second))
    batch = shape if len(shape) == 3 else (1, *shape)
    b.bind(call, viewed(b, b.one("matmul", (first, second), "product", batch), shape))


def linear(b: Builder, call: Call) -> None:
    """``qtr.linear`` -> linear, and add_bias where there is a bias."""
    x, w, bias, _ = call.args
    y = b.one("linear", (b.of(x), b.of(w)), "y", result_shape(call))
    b.bind(call, _add_bias(b, y, bias))


def linear_dx(b: Builder, call: Call) -> None:
    """``qtr.linear_dx`` -> linear_input_grad."""
    g, w, _ = call.args
    b.bind(call, b.one("linear_input_grad", (b.of(g), b.of(w)), "dx", result_shape(call)))


def linear_dw(b: Builder, call: Call) -> None:
    """``qtr.linear_dw`` -> linear_weight_grad."""
    g, x, _ = call.args
    b.bind(call, b.one("linear_weight_grad", (b.of(g), b.of(x)), "dw", result_shape(call)))


def bias_grad(b: Builder, call: Call) -> None:
    """``qtr.bias_grad`` -> sum_channels."""
    b.bind(call, b.one("sum_channels", (b.of(call.args[0]),), "db", result_shape(call)))


def between(b: Builder, call: Call) -> None:
    """``qtr.product`` -> product: a layer of two activations."""
    first, second, _ = call.args
    b.bind(call, b.one("product", (b.of(first), b.of(second)), "y", result_shape(call)))


def between_da(b: Builder, call: Call) -> None:
    """``qtr.product_da`` -> product_input_grad."""
    g, second, _ = call.args
    made = b.one("product_input_grad", (b.of(g), b.of(second)), "da", result_shape(call))
    b.bind(call, made)


def between_db(b: Builder, call: Call) -> None:
    """``qtr.product_db`` -> product_weight_grad."""
    g, first, _ = call.args
    made = b.one("product_weight_grad", (b.of(g), b.of(first)), "db", result_shape(call))
    b.bind(call, made)


GEMM: dict[str, CallLowering] = {
    "qtr.conv.default": conv,
    "qtr.conv_dx.default": conv_dx,
    "qtr.conv_dw.default": conv_dw,
    "qtr.linear.default": linear,
    "qtr.linear_dx.default": linear_dx,
    "qtr.linear_dw.default": linear_dw,
    "qtr.bias_grad.default": bias_grad,
    "qtr.conv_t.default": conv_t,
    "qtr.conv_t_dx.default": conv_t_dx,
    "qtr.conv_t_dw.default": conv_t_dw,
    "qtr.product.default": between,
    "qtr.product_da.default": between_da,
    "qtr.product_db.default": between_db,
    "aten.bmm.default": product,
    "aten.mm.default": product,
}
