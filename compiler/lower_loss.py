"""Lowering of cross entropy and mean squared error with their backward."""

from __future__ import annotations

from .ir import Attr, Value
from .lower_builder import Builder, Lowering, f32, refuse, result_shape, shape_of
from .lower_joint import Arg, Call
from .lower_shape import permuted, viewed
from .types import Shape

REDUCTIONS = {1: "mean", 2: "sum"}


def _last(shape: Shape, dim: int) -> tuple[int, ...]:
    """Order of dimensions that puts ``dim`` at the end."""
    return (*(i for i in range(len(shape)) if i != dim), dim)


def _rows(b: Builder, x: Value, dim: int) -> Value:
    """``x`` as a matrix with one row for each distribution along ``dim``."""
    shape = shape_of(x)
    moved = permuted(b, x, _last(shape, dim))
    return viewed(b, moved, (moved.type.elements // shape[dim], shape[dim]))


def _from_rows(b: Builder, rows: Value, shape: Shape, dim: int) -> Value:
    order = _last(shape, dim)
    moved = viewed(b, rows, tuple(shape[i] for i in order))
    return permuted(b, moved, tuple(order.index(i) for i in range(len(shape))))


def _dim(value: Arg, shape: Shape) -> int:
    assert isinstance(value, int)
    return value % len(shape)


def log_softmax(b: Builder, call: Call) -> None:
    """Logarithm of softmax along one dimension."""
    shape = result_shape(call)
    dim = _dim(call.args[1], shape)
    x = _rows(b, b.of(call.args[0]), dim)
    y = b.one("log_softmax", (x,), "log_softmax", shape_of(x))
    b.bind(call, _from_rows(b, y, shape, dim))


def log_softmax_backward(b: Builder, call: Call) -> None:
    """dX of log_softmax from its output."""
    shape = result_shape(call)
    dim = _dim(call.args[2], shape)
    g, y = (_rows(b, b.of(a), dim) for a in call.args[:2])
    dx = b.one("log_softmax_grad", (g, y), "log_softmax.dx", shape_of(g))
    b.bind(call, _from_rows(b, dx, shape, dim))


def _class_dim(shape: Shape) -> int:
    return min(1, len(shape) - 1)


def _nll_attributes(call: Call, weight: Arg, reduction: Arg, ignore: Arg) -> dict[str, Attr]:
    if weight is not None:
        raise refuse(call, "has class weights; only cross entropy without weights is supported")
    assert isinstance(ignore, int)
    return {"reduction": _reduction(call, reduction), "ignore_index": ignore}


def _reduction(call: Call, reduction: Arg) -> str:
    if reduction not in REDUCTIONS:
        raise refuse(call, "reduces nothing; only reduction='mean' and 'sum' are supported")
    assert isinstance(reduction, int)
    return REDUCTIONS[reduction]


def nll_loss(b: Builder, call: Call) -> None:
    """Negative log likelihood and the count of targets that are not ignored."""
    y, target, *rest = call.args
    attributes = _nll_attributes(call, *rest)
    rows = _rows(b, b.of(y), _class_dim(shape_of(b.of(y))))
    labels = viewed(b, b.of(target), shape_of(rows)[:1], "target")
    results = [("nll_loss", f32()), ("count", f32())]
    b.bind(call, *b.emit("nll_loss", (rows, labels), results, **attributes))


def nll_loss_backward(b: Builder, call: Call) -> None:
    """The gradient of the log probabilities: zero but at the targets."""
    g, y, target, weight, reduction, ignore, total = call.args
    attributes = _nll_attributes(call, weight, reduction, ignore)
    shape = shape_of(b.of(y))
    dim = _class_dim(shape)
    rows = (b.of(y).type.elements // shape[dim], shape[dim])
    labels = viewed(b, b.of(target), rows[:1], "target")
    inputs = (b.of(g), labels, b.of(total))
    dy = b.one("nll_loss_grad", inputs, "nll_loss.dx", rows, **attributes)
    b.bind(call, _from_rows(b, dy, shape, dim))


def mse_loss(b: Builder, call: Call) -> None:
    """Mean or sum of squared differences."""
    x, y, reduction = call.args
    word = _reduction(call, reduction)
    b.bind(call, b.one("mse_loss", (b.of(x), b.of(y)), "mse_loss", (), reduction=word))


def mse_loss_backward(b: Builder, call: Call) -> None:
    """dX of mse_loss."""
    g, x, y, reduction = call.args
    word, inputs = _reduction(call, reduction), (b.of(g), b.of(x), b.of(y))
    dx = b.one("mse_loss_grad", inputs, "mse_loss.dx", result_shape(call), reduction=word)
    b.bind(call, dx)


LOSS: dict[str, Lowering] = {
    "aten._log_softmax.default": log_softmax,
    "aten._log_softmax_backward_data.default": log_softmax_backward,
    "aten.nll_loss_forward.default": nll_loss,
    "aten.nll_loss_backward.default": nll_loss_backward,
    "aten.nll_loss2d_forward.default": nll_loss,
    "aten.nll_loss2d_backward.default": nll_loss_backward,
    "aten.mse_loss.default": mse_loss,
    "aten.mse_loss_backward.default": mse_loss_backward,
}
