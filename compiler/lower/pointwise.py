"""Lowering of elementwise ops and their broadcasts, and of sums and means."""

from __future__ import annotations

from ..formats import I64
from ..ir import Value
from ..types import Shape
from .builder import (
    Builder,
    CallLowering,
    dims_of,
    number,
    refuse,
    result_shape,
    shape_of,
)
from .joint import Arg, Call, JointTensor
from .norm import count_up
from .shape import viewed


def broadcast(b: Builder, v: Value, shape: Shape, part: str = "wide") -> Value:
    """``v`` repeated to ``shape`` by torch's rules."""
    if shape_of(v) == shape:
        return v
    if v in b.constants:
        return b.constant(shape, b.constants[v])
    full = (1,) * (len(shape) - len(shape_of(v))) + shape_of(v)
    dims = tuple(i for i, (have, want) in enumerate(zip(full, shape, strict=True)) if have != want)
    kept = tuple(d for i, d in enumerate(shape) if i not in dims)
    if shape_of(v) not in (full, kept):
        v = viewed(b, v, full)
    return b.one("broadcast", (v,), part, shape, dims=dims) if dims else viewed(b, v, shape)


def operand(b: Builder, arg: Arg, shape: Shape) -> Value:
    """An argument as a tensor of ``shape``."""
    if isinstance(arg, JointTensor):
        return broadcast(b, b.of(arg), shape)
    return b.constant(shape, number(arg))


def plain(b: Builder, arg: Arg) -> float | None:
    """The number of an argument that is one everywhere; None of any other tensor."""
    return b.constants.get(b.of(arg)) if isinstance(arg, JointTensor) else number(arg)


def scaled(b: Builder, v: Value, factor: float) -> Value:
    """v * factor"""
    return v if factor == 1.0 else b.one("scale", (v,), "scale", shape_of(v), factor=factor)


def shifted(b: Builder, v: Value, by: float) -> Value:
    """v + by"""
    return v if by == 0.0 else b.one("shift", (v,), "shift", shape_of(v), by=by)


def add(b: Builder, call: Call) -> None:
    """x + alpha * y."""
    if call.args[0] in b.buffer_of and b.of(call.args[0]).type.format is I64:
        count_up(b, call)
        return
    _sum(b, call, 1.0)


def sub(b: Builder, call: Call) -> None:
    """x - alpha * y."""
    _sum(b, call, -1.0)


def _sum(b: Builder, call: Call, sign: float) -> None:
    x, y, *rest = call.args
    shape, alpha = result_shape(call), number(rest[0]) if rest else 1.0
    left, right = plain(b, x), plain(b, y)
    if right is not None:
        made = shifted(b, operand(b, x, shape), sign * alpha * right)
    elif left is not None:
        made = shifted(b, scaled(b, operand(b, y, shape), sign * alpha), left)
    else:
        kind = "add" if sign > 0 else "sub"
        part = "sum" if (kind, b.region) == ("add", "backward") else kind
        both = operand(b, x, shape), scaled(b, operand(b, y, shape), alpha)
        made = b.one(kind, both, part, shape)
    b.bind(call, made)


def mul(b: Builder, call: Call) -> None:
    """x * y, by a number or a tensor."""
    x, y = call.args[:2]
    shape = result_shape(call)
    for one, other in ((x, y), (y, x)):
        factor = plain(b, other)
        if factor is not None:
            b.bind(call, scaled(b, operand(b, one, shape), factor))
            return
    b.bind(call, b.one("mul", (operand(b, x, shape), operand(b, y, shape)), "mul", shape))


def div(b: Builder, call: Call) -> None:
    """x / y, by a number or a tensor."""
    x, y = call.args[:2]
    if len(call.args) > 2 and call.args[2] is not None:
        raise refuse(call, f"rounds ({call.args[2]}); only true division is supported")
    shape, divisor = result_shape(call), plain(b, y)
    if divisor == 0.0:
        raise refuse(call, "divides by zero")
    if divisor is not None:
        b.bind(call, scaled(b, operand(b, x, shape), 1.0 / divisor))
        return
    b.bind(call, b.one("div", (operand(b, x, shape), operand(b, y, shape)), "div", shape))


def neg(b: Builder, call: Call) -> None:
    """-x."""
    b.bind(call, scaled(b, b.of(call.args[0]), -1.0))


def relu(b: Builder, call: Call) -> None:
    """max(x, 0)."""
    b.bind(call, b.one("relu", (b.of(call.args[0]),), "relu", result_shape(call)))


def relu_backward(b: Builder, call: Call) -> None:
    """g where the saved output is positive."""
    g, y, threshold = call.args
    if number(threshold) != 0.0:
        pair, shape = (b.of(y),), result_shape(call)
        value = number(threshold)
        below = b.one("compare_to", pair, "below", shape, relation="le", value=value)
        b.bind(call, b.one("masked", (below, b.of(g)), "dx", shape, value=0.0))
        return
    # Named after the output, so that of two relus in one module each has its own gradient's name.
    part = f"{b.of(y).name.removeprefix(b.origin).lstrip('.')}.dx".lstrip(".")
    b.bind(call, b.one("relu_grad", (b.of(g), b.of(y)), part, result_shape(call)))


def reduction(kind: str, *, dims: int | None = None, keepdim: int | None = None) -> CallLowering:
    """Lowering of ``sum``, ``mean`` or ``max``.

    ``dims`` and ``keepdim`` are the places of these arguments; a call that has no such argument
    reduces over all dimensions and keeps none.
    """

    def lower(b: Builder, call: Call) -> None:
        x, shape = b.of(call.args[0]), result_shape(call)
        over = dims_of(None if dims is None else call.args[dims], len(shape_of(x)))
        keep = keepdim is not None and bool(call.args[keepdim])
        b.bind(call, b.one(kind, (x,), kind, shape, dims=over, keepdim=keep) if over else x)

    return lower


def expand(b: Builder, call: Call) -> None:
    """Repetition along dimensions of size 1 or new ones."""
    b.bind(call, broadcast(b, b.of(call.args[0]), result_shape(call)))


def filled(value: float) -> CallLowering:
    """Lowering of a tensor of zeros or ones."""

    def lower(b: Builder, call: Call) -> None:
        b.bind(call, b.constant(result_shape(call), value))

    return lower


def full(*, at: int) -> CallLowering:
    """Lowering of a constant tensor whose number is the argument ``at``."""

    def lower(b: Builder, call: Call) -> None:
        b.bind(call, b.constant(result_shape(call), number(call.args[at])))

    return lower


POINTWISE: dict[str, CallLowering] = {
    "aten.add.Tensor": add,
    "aten.add.Scalar": add,
    "aten.sub.Tensor": sub,
    "aten.sub.Scalar": sub,
    "aten.mul.Tensor": mul,
    "aten.mul.Scalar": mul,
    "aten.div.Tensor": div,
    "aten.div.Scalar": div,
    "aten.div.Tensor_mode": div,
    "prims.div.default": div,
    "aten.neg.default": neg,
    "aten.relu.default": relu,
    "aten.threshold_backward.default": relu_backward,
    "aten.sum.default": reduction("sum"),
    "aten.sum.dim_IntList": reduction("sum", dims=1, keepdim=2),
    "prims.sum.default": reduction("sum", dims=1),
    "aten.amax.default": reduction("max", dims=1, keepdim=2),
    "aten.any.default": reduction("max"),
    "aten.any.dim": reduction("max", dims=1, keepdim=2),
    "aten.any.dims": reduction("max", dims=1, keepdim=2),
    "prims.amax.default": reduction("max", dims=1),
    "aten.max.default": reduction("max"),
    "aten.mean.default": reduction("mean"),
    "aten.mean.dim": reduction("mean", dims=1, keepdim=2),
    "aten.expand.default": expand,
    "aten.full.default": full(at=1),
    "aten.full_like.default": full(at=1),
    "aten.new_full.default": full(at=2),
    "aten.scalar_tensor.default": full(at=0),
    "aten.fill.Scalar": full(at=1),
    "aten.zeros.default": filled(0.0),
    "aten.new_zeros.default": filled(0.0),
    "aten.ones.default": filled(1.0),
    "aten.new_ones.default": filled(1.0),
}
