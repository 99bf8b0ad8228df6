"""Reference of the ops that move elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.ir import Op
from ...compiler.types import Shape
from ..numbers.tensor import Array, Tensor
from .frame import Meaning, on_numbers


def view(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Codes and scale stay."""
    (x,) = inputs
    return (Tensor(op.result.type, x.data.reshape(op.result.type.shape), x.scale),)


def permute(op: Op, x: Array) -> Array:
    """Dimension i of the result is dimension ``dims[i]`` of x."""
    return x.transpose(op.ints_attr("dims"))


def cat(op: Op, *parts: Array) -> Array:
    """One after another along ``dim``."""
    return np.concatenate(parts, axis=op.int_attr("dim"))


def slice_(op: Op, x: Array) -> Array:
    """The length is that of the result."""
    return x[_index(op, op.result.type.shape)]


def slice_grad(op: Op, g: Array) -> Array:
    """Zeros but for the slice."""
    dx = np.zeros(op.result.type.shape, np.float32)
    dx[_index(op, g.shape)] = g
    return dx


def _index(op: Op, part: Shape) -> tuple[slice, ...]:
    dim, start, step = (op.int_attr(k) for k in ("dim", "start", "step"))
    along = slice(start, start + (part[dim] - 1) * step + 1, step)
    return (*(slice(None),) * dim, along)


def pad(op: Op, x: Array) -> Array:
    """Behind each dimension stands what the result has room for."""
    y = np.full(op.result.type.shape, op.float_attr("value"), np.float32)
    y[tuple(slice(b, b + n) for b, n in zip(op.ints_attr("before"), x.shape, strict=True))] = x
    return y


def iota(op: Op) -> Array:
    """start, start + step, ..."""
    count = np.arange(op.result.type.elements).reshape(op.result.type.shape)
    return np.asarray(op.int_attr("start") + op.int_attr("step") * count)


def triangle(op: Op) -> Array:
    """1 in the lower triangle of the last two dimensions."""
    return np.asarray(np.tril(np.ones(op.result.type.shape, np.float32), op.int_attr("diagonal")))


def one_hot(op: Op, target: Array) -> Array:
    """Classes along dimension 1."""
    shape = op.result.type.shape
    classes = np.arange(shape[1]).reshape(-1, *(1,) * (len(shape) - 2))
    column = np.expand_dims(target, 1)
    hit = (classes == column) & (column != op.int_attr("ignore_index"))
    return np.asarray(hit, np.float32)


def table(op: Op) -> Array:
    """Rounded to f32."""
    return np.array(op.floats_attr("numbers"), np.float32).reshape(op.result.type.shape)


def hard_choice(op: Op, x: Array) -> Array:
    """NaN is never chosen but where nothing else could be: then the first is."""
    best = np.where(np.isnan(x), -np.inf, x).argmax(axis=1)
    return np.asarray(np.arange(x.shape[1]) == best[:, None], np.float32)


def resample(op: Op, x: Array) -> Array:
    """A sparse matrix acts along ``dim``; products and sums in f32, in the order of the lists."""
    dim, starts = op.int_attr("dim"), op.ints_attr("starts")
    index, weights = op.ints_attr("index"), op.floats_attr("weights")
    moved = np.moveaxis(x, dim, 0)
    y = np.zeros((len(starts) - 1, *moved.shape[1:]), np.float32)
    for i in range(len(y)):
        for k in range(starts[i], starts[i + 1]):
            y[i] += np.float32(weights[k]) * moved[index[k]]
    return np.asarray(np.moveaxis(y, 0, dim))


def embedding(op: Op, w: Array, index: Array) -> Array:
    """Rows of w; NaN where there is none."""
    inside = (index >= 0) & (index < len(w))
    return np.where(inside[..., None], w[np.where(inside, index, 0)], np.float32(np.nan))


def embedding_grad(op: Op, g: Array, index: Array) -> Array:
    """Sums in float64, in the order of the indices."""
    dw = np.zeros(op.result.type.shape, np.float64)
    flat, rows = index.reshape(-1), g.reshape(-1, g.shape[-1]).astype(np.float64)
    inside = (flat >= 0) & (flat < len(dw))
    np.add.at(dw, flat[inside], rows[inside])
    if op.int_attr("padding_index") >= 0:
        dw[op.int_attr("padding_index")] = 0
    return dw


SHAPE: dict[str, Meaning] = {
    "view": view,
    "permute": on_numbers(permute),
    "cat": on_numbers(cat),
    "slice": on_numbers(slice_),
    "slice_grad": on_numbers(slice_grad),
    "pad": on_numbers(pad),
    "iota": on_numbers(iota),
    "triangle": on_numbers(triangle),
    "one_hot": on_numbers(one_hot),
    "table": on_numbers(table),
    "hard_choice": on_numbers(hard_choice),
    "resample": on_numbers(resample),
    "embedding": on_numbers(embedding),
    "embedding_grad": on_numbers(embedding_grad),
}
