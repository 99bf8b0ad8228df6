"""Lowering of cross entropy and mean squared error with their backward."""

from __future__ import annotations

from ..ir import Attr, Value
from ..types import Shape
from .builder import Builder, CallLowering, f32, number, result_shape, shape_of
from .joint import Arg, Call
from .pointwise import broadcast, scaled
from .shape import permuted, viewed
from .whole import made_whole, whole_compared, whole_of

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


def _word(reduction: Arg) -> str | None:
    """mean or sum; None where each loss stays."""
    return REDUCTIONS.get(reduction) if isinstance(reduction, int) else None


def _attributes(word: str, ignore: Arg) -> dict[str, Attr]:
    assert isinstance(ignore, int)
    return {"reduction": word, "ignore_index": ignore}


def nll_loss(b: Builder, call: Call) -> None:
    """Negative log likelihood and the count of targets that are not ignored."""
    y, target, weight, reduction, ignore = call.args
    word = _word(reduction)
    if weight is not None or word is None:
        _weighted_nll(b, call)
        return
    rows = _rows(b, b.of(y), _class_dim(shape_of(b.of(y))))
    labels = viewed(b, whole_of(b, target), shape_of(rows)[:1], "target")
    results = [("nll_loss", f32()), ("count", f32())]
    loss, count = b.emit("nll_loss", (rows, labels), results, **_attributes(word, ignore))
    b.bind(call, _known(b, loss, labels, shape_of(rows)[1], ignore), count)


def _known(b: Builder, loss: Value, labels: Value, classes: int, ignore: Arg) -> Value:
    """The loss; NaN where a label that was computed, which nobody looks at, is none."""
    if labels in b.given or b.viewed_from.get(labels) in b.given:
        return loss
    shape, counted = shape_of(labels), int(number(ignore))
    attributes: dict[str, Attr] = {"sizes": (classes,), "wraps": False}
    places = made_whole(b, "place", (labels,), "place", shape, **attributes)
    wrong = whole_compared(b, places, -1, "eq")
    counts = whole_compared(b, labels, counted, "ne")
    both = b.one("mul", (wrong, counts), "wrong", shape)
    dims = tuple(range(len(shape)))
    total = b.one("max", (both,), "any", (), dims=dims, keepdim=False)
    none = b.one("within", (total,), "none", (), low=0.0, high=0.0)
    pair = loss, broadcast(b, none, shape_of(loss))
    return b.one("add", pair, "known", shape_of(loss))


def nll_loss_backward(b: Builder, call: Call) -> None:
    """The gradient of the log probabilities: zero but at the targets."""
    g, y, target, weight, reduction, ignore, total = call.args
    word = _word(reduction)
    if weight is not None or word is None:
        _weighted_nll_backward(b, call)
        return
    shape = shape_of(b.of(y))
    dim = _class_dim(shape)
    rows = (b.of(y).type.elements // shape[dim], shape[dim])
    labels = viewed(b, whole_of(b, target), rows[:1], "target")
    inputs = (b.of(g), labels, b.of(total))
    attributes = _attributes(word, ignore)
    dy = b.one("nll_loss_grad", inputs, "nll_loss.dx", rows, **attributes)
    b.bind(call, _from_rows(b, dy, shape, dim))


def _weights_at(b: Builder, y: Arg, target: Arg, weight: Arg, ignore: Arg) -> Value:
    """The weight of each target at its class, in the shape of ``y``; 0 elsewhere."""
    shape, labels = shape_of(b.of(y)), whole_of(b, target)
    dim = _class_dim(shape)
    assert isinstance(ignore, int)
    if dim == 0:  # one sample without a batch
        labels, shape = viewed(b, labels, (1,), "target"), (1, *shape)
    hot = b.one("one_hot", (labels,), "one_hot", shape, ignore_index=ignore)
    if weight is not None:
        column = viewed(b, b.of(weight), (shape[1], *(1,) * (len(shape) - 2)))
        hot = b.one("mul", (hot, broadcast(b, column, shape)), "weights", shape)
    return viewed(b, hot, shape_of(b.of(y)))


def _weighted_nll(b: Builder, call: Call) -> None:
    """With class weights, or a loss for each target."""
    y, target, weight, reduction, ignore = call.args
    hot = _weights_at(b, y, target, weight, ignore)
    shape, labels = shape_of(hot), whole_of(b, target)
    classes = shape[_class_dim(shape)]
    lost = b.one("mul", (hot, b.of(y)), "lost", shape)
    lost = scaled(b, lost, -1.0)
    every, dim = tuple(range(len(shape))), (_class_dim(shape),)
    total = b.one("sum", (hot,), "count", (), dims=every, keepdim=False)
    if _word(reduction) is None:
        made = result_shape(call)
        each = b.one("sum", (lost,), "nll_loss", made, dims=dim, keepdim=False)
        b.bind(call, _known(b, each, labels, classes, ignore), total)
        return
    loss = b.one("sum", (lost,), "nll_loss", (), dims=every, keepdim=False)
    if _word(reduction) == "mean":
        loss = b.one("div", (loss, total), "mean", ())
    b.bind(call, _known(b, loss, labels, classes, ignore), total)


def _weighted_nll_backward(b: Builder, call: Call) -> None:
    g, y, target, weight, reduction, ignore, total = call.args
    hot, rate = _weights_at(b, y, target, weight, ignore), b.of(g)
    shape = shape_of(hot)
    if _word(reduction) is None:
        dim = _class_dim(shape)
        rate = viewed(b, rate, (*shape[:dim], 1, *shape[dim + 1 :]))
    elif _word(reduction) == "mean":
        none = b.one("compare_to", (b.of(total),), "none", (), relation="eq", value=0.0)
        rate = b.one("div", (rate, b.of(total)), "rate", ())
        rate = b.one("masked", (none, rate), "rate", (), value=0.0)
    dy = b.one("mul", (hot, broadcast(b, rate, shape)), "nll_loss.dx", shape)
    b.bind(call, scaled(b, dy, -1.0))


def mse_loss(b: Builder, call: Call) -> None:
    """Mean or sum of squared differences, or each of them."""
    x, y, reduction = call.args
    shape, word = shape_of(b.of(x)), _word(reduction)
    if word is None:
        away = b.one("sub", (b.of(x), broadcast(b, b.of(y), shape)), "away", shape)
        b.bind(call, b.one("mul", (away, away), "mse_loss", shape))
        return
    b.bind(call, b.one("mse_loss", (b.of(x), b.of(y)), "mse_loss", (), reduction=word))


def mse_loss_backward(b: Builder, call: Call) -> None:
    """dX of mse_loss."""
    g, x, y, reduction = call.args
    shape, word = result_shape(call), _word(reduction)
    if word is None:
        away = b.one("sub", (b.of(x), broadcast(b, b.of(y), shape)), "away", shape)
        b.bind(call, scaled(b, b.one("mul", (away, b.of(g)), "dx", shape), 2.0))
        return
    inputs = (b.of(g), b.of(x), b.of(y))
    b.bind(call, b.one("mse_loss_grad", inputs, "mse_loss.dx", shape, reduction=word))


LOSS: dict[str, CallLowering] = {
    "aten._log_softmax.default": log_softmax,
    "aten._log_softmax_backward_data.default": log_softmax_backward,
    "aten.nll_loss_forward.default": nll_loss,
    "aten.nll_loss_backward.default": nll_loss_backward,
    "aten.nll_loss2d_forward.default": nll_loss,
    "aten.nll_loss2d_backward.default": nll_loss_backward,
    "aten.mse_loss.default": mse_loss,
    "aten.mse_loss_backward.default": mse_loss_backward,
}
