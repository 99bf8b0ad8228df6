"""Lowering of what reads by index: embeddings, maps along a dimension, random masks."""

from __future__ import annotations

from math import prod

from ..formats import I64
from ..ir import Attr, Value
from ..types import TensorType
from .builder import Builder, CallLowering, number, refuse, result_shape, shape_of
from .joint import Arg, Call
from .shape import viewed
from .whole import checked_rows, made_whole, whole_of


def embedding(b: Builder, call: Call) -> None:
    """Rows of a table."""
    w, known = b.of(call.args[0]), b.numbers(call.args[1])
    if known is not None:
        checked_rows(call, known, shape_of(w)[0], wraps=False)
    index = whole_of(b, call.args[1])
    b.bind(call, b.one("embedding", (w, index), "y", result_shape(call)))


def embedding_backward(b: Builder, call: Call) -> None:
    """Sums of gradients by row."""
    g, index, _, padding, by_frequency = call.args
    if by_frequency:
        raise refuse(call, "scales by frequency; only scale_grad_by_freq=False is supported")
    assert isinstance(padding, int)
    inputs = (b.of(g), whole_of(b, index))
    shape = result_shape(call)
    b.bind(call, b.one("embedding_grad", inputs, "dw", shape, padding_index=padding))


def arange(*, start: int | None = None, step: int | None = None) -> CallLowering:
    """Lowering of integers at even distances; ``start`` and ``step`` are places of arguments."""

    def lower(b: Builder, call: Call) -> None:
        (made,) = call.results
        assert made is not None
        if made.dtype != "int64":
            raise refuse(call, f"counts in {made.dtype}; only integers are supported")
        first = 0 if start is None else _whole(call, start)
        by = 1 if step is None else _whole(call, step)
        type_ = TensorType(made.shape, I64)
        b.bind(call, *b.emit("iota", (), [("arange", type_)], start=first, step=by))

    return lower


def _whole(call: Call, i: int) -> int:
    value = number(call.args[i])
    if not value.is_integer():
        raise refuse(call, f"counts with {value}; only integers are supported")
    return int(value)


def resample(b: Builder, call: Call) -> None:
    """``qtr.resample``: a sparse matrix along a dimension."""
    x, dim, _, starts, index, weights = call.args
    assert isinstance(dim, int) and isinstance(weights, tuple)
    attributes: dict[str, Attr] = {
        "dim": dim,
        "starts": _ints(starts),
        "index": _ints(index),
        "weights": tuple(map(number, weights)),
    }
    b.bind(call, b.one("resample", (b.of(x),), "resample", result_shape(call), **attributes))


def flip(b: Builder, call: Call) -> None:
    """The elements of some dimensions in reverse."""
    x, dims = call.args
    assert isinstance(dims, tuple)
    v = b.of(x)
    for dim in dims:
        assert isinstance(dim, int)
        size = shape_of(v)[dim]
        v = _moved(b, v, dim % len(shape_of(v)), tuple(reversed(range(size))))
    b.bind(call, v)


def roll(b: Builder, call: Call) -> None:
    """The elements of some dimensions moved in a circle."""
    x, shifts, dims = call.args
    assert isinstance(shifts, tuple) and isinstance(dims, tuple)
    if not dims:
        raise refuse(call, "rolls all elements as one line; name the dimensions")
    v = b.of(x)
    for by, dim in zip(shifts, dims, strict=True):
        assert isinstance(dim, int) and isinstance(by, int)
        size = shape_of(v)[dim]
        v = _moved(b, v, dim % len(shape_of(v)), tuple((i - by) % size for i in range(size)))
    b.bind(call, v)


def _moved(b: Builder, v: Value, dim: int, index: tuple[int, ...]) -> Value:
    n = len(index)
    if v.type.format.is_index:
        rows = made_whole(b, "whole_table", (), "rows", (n,), numbers=index)
        left, right = prod(shape_of(v)[:dim]), prod(shape_of(v)[dim + 1 :])
        thin = viewed(b, v, (left, n, right))
        taken = b.one("take", (thin, rows), "moved", (left, n, right), wraps=False)
        return viewed(b, taken, shape_of(v))
    attributes: dict[str, Attr] = {
        "dim": dim,
        "starts": tuple(range(n + 1)),
        "index": index,
        "weights": (1.0,) * n,
    }
    return b.one("resample", (v,), "moved", shape_of(v), **attributes)


def _ints(value: Arg) -> tuple[int, ...]:
    assert isinstance(value, tuple)
    return tuple(v for v in value if isinstance(v, int))


def within(b: Builder, call: Call) -> None:
    """``qtr.within``: numbers of a range."""
    x, low, high = call.args
    bounds = {"low": number(low), "high": number(high)}
    b.bind(call, b.one("within", (b.of(x),), "within", result_shape(call), **bounds))


def one_hot(b: Builder, call: Call) -> None:
    """``qtr.one_hot``: 1 at the class of each target."""
    target, _, ignore = call.args
    assert isinstance(ignore, int)
    shape = result_shape(call)
    labels = whole_of(b, target)
    b.bind(call, b.one("one_hot", (labels,), "one_hot", shape, ignore_index=ignore))


INDEX: dict[str, CallLowering] = {
    "aten.arange.default": arange(),
    "aten.arange.start": arange(start=0),
    "aten.arange.start_step": arange(start=0, step=2),
    "aten.embedding.default": embedding,
    "aten.embedding_dense_backward.default": embedding_backward,
    "aten.flip.default": flip,
    "aten.roll.default": roll,
    "qtr.resample.default": resample,
    "qtr.one_hot.default": one_hot,
    "qtr.within.default": within,
}
