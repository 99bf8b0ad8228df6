"""Lowering of elementwise ops and their broadcasts, and of sums and means."""

from __future__ import annotations

from .ir import Value
from .lower_builder import (
    Builder,
    Lowering,
    dims_of,
    number,
    refuse,
    result_shape,
    shape_of,
)
from .lower_joint import Arg, Call, Tensor
from .lower_norm import count
from .lower_shape import viewed
from .types import Shape


def broadcast(b: Builder, v: Value, shape: Shape, part: str = "wide") -> Value:
    """``v`` repeated to ``shape`` by torch's rules."""
    if shape_of(v) == shape:
        return v
    full = (1,) * (len(shape) - len(shape_of(v))) + shape_of(v)
    dims = tuple(i for i, (have, want) in enumerate(zip(full, shape, strict=True)) if have != want)
    kept = tuple(d for i, d in enumerate(shape) if i not in dims)
    if shape_of(v) not in (full, kept):
        v = viewed(b, v, full)
    return b.one("broadcast", (v,), part, shape, dims=dims) if dims else viewed(b, v, shape)


def _operand(b: Builder, arg: Arg, shape: Shape) -> Value:
    if isinstance(arg, Tensor):
        return broadcast(b, b.of(arg), shape)
    return b.one("constant", (), "constant", shape, value=number(arg))


def _scaled(b: Builder, v: Value, factor: float) -> Value:
    return v if factor == 1.0 else b.one("scale", (v,), "scale", shape_of(v), factor=factor)


def add(b: Builder, call: Call) -> None:
    """x + alpha * y."""
    x, y, *rest = call.args
    if call.results[0] is not None and call.results[0].dtype == "int64":
        count(b, call)
        return
    shape = result_shape(call)
    right = _scaled(b, _operand(b, y, shape), number(rest[0]) if rest else 1.0)
    part = "sum" if b.region == "backward" else "add"
    b.bind(call, b.one("add", (_operand(b, x, shape), right), part, shape))


def sub(b: Builder, call: Call) -> None:
    """x - alpha * y."""
    x, y, *rest = call.args
    shape = result_shape(call)
    right = _scaled(b, _operand(b, y, shape), number(rest[0]) if rest else 1.0)
    b.bind(call, b.one("sub", (_operand(b, x, shape), right), "sub", shape))


def mul(b: Builder, call: Call) -> None:
    """x * y, by a number or a tensor."""
    x, y = call.args[:2]
    shape = result_shape(call)
    if not isinstance(y, Tensor):
        b.bind(call, _scaled(b, b.of(x), number(y)))
        return
    b.bind(call, b.one("mul", (_operand(b, x, shape), _operand(b, y, shape)), "mul", shape))


def div(b: Builder, call: Call) -> None:
    """x / number."""
    x, y = call.args[:2]
    if isinstance(y, Tensor):
        raise refuse(call, "divides by a tensor; only division by a number is supported")
    if number(y) == 0.0:
        raise refuse(call, "divides by zero")
    b.bind(call, _scaled(b, b.of(x), 1.0 / number(y)))


def neg(b: Builder, call: Call) -> None:
    """-x."""
    b.bind(call, _scaled(b, b.of(call.args[0]), -1.0))


def relu(b: Builder, call: Call) -> None:
    """max(x, 0)."""
    b.bind(call, b.one("relu", (b.of(call.args[0]),), "relu", result_shape(call)))


def relu_backward(b: Builder, call: Call) -> None:
    """g where the saved output is positive."""
    g, y, threshold = call.args
    if number(threshold) != 0.0:
        raise refuse(call, f"has the threshold {threshold}; only relu, with 0, is supported")
    # Named after the output, so that of two relus in one module each has its own gradient's name.
    part = f"{b.of(y).name.removeprefix(b.origin).lstrip('.')}.dx".lstrip(".")
    b.bind(call, b.one("relu_grad", (b.of(g), b.of(y)), part, result_shape(call)))


def reduction(kind: str) -> Lowering:
    """Lowering of ``sum`` or ``mean`` over some dimensions or all."""

    def lower(b: Builder, call: Call) -> None:
        x = b.of(call.args[0])
        over = call.args[1] if ".dim" in call.op else None
        keepdim = bool(call.args[2]) if ".dim" in call.op else False
        dims = dims_of(over, len(shape_of(x)))
        shape = result_shape(call)
        b.bind(call, b.one(kind, (x,), kind, shape, dims=dims, keepdim=keepdim) if dims else x)

    return lower


def expand(b: Builder, call: Call) -> None:
    """Repetition along dimensions of size 1 or new ones."""
    b.bind(call, broadcast(b, b.of(call.args[0]), result_shape(call)))


def full(b: Builder, call: Call) -> None:
    """A constant tensor."""
    value = number(call.args[1]) if call.op.startswith("aten.full") else 0.0
    b.bind(call, b.one("constant", (), "constant", result_shape(call), value=value))


POINTWISE: dict[str, Lowering] = {
    "aten.add.Tensor": add,
    "aten.sub.Tensor": sub,
    "aten.mul.Tensor": mul,
    "aten.mul.Scalar": mul,
    "aten.div.Tensor": div,
    "aten.div.Scalar": div,
    "aten.neg.default": neg,
    "aten.relu.default": relu,
    "aten.threshold_backward.default": relu_backward,
    "aten.sum.default": reduction("sum"),
    "aten.sum.dim_IntList": reduction("sum"),
    "aten.mean.default": reduction("mean"),
    "aten.mean.dim": reduction("mean"),
    "aten.expand.default": expand,
    "aten.full.default": full,
    "aten.zeros.default": full,
}
