"""Lowering of what moves elements without computing: views, slices, pads, concatenation."""

from __future__ import annotations

from math import prod

from ..ir import Value
from ..types import Shape, TensorType
from .builder import Builder, CallLowering, refuse, result_shape, shape_of
from .joint import Arg, Call, JointTensor


def alias(b: Builder, call: Call) -> None:
    """In a program of values a copy is the value itself."""
    b.bind(call, b.of(call.args[0]))


def viewed(b: Builder, x: Value, shape: Shape, part: str = "view") -> Value:
    """``x`` in another shape; nothing where it has that shape already."""
    source = b.viewed_from.get(x, x)
    for same in (x, source):
        if shape_of(same) == shape:
            return same
    made = b.emit("view", (source,), [(part, TensorType(shape, x.type.format))])[0]
    b.viewed_from[made] = source
    return made


def view(b: Builder, call: Call) -> None:
    """Reshape, flatten, squeeze and unsqueeze alike."""
    b.bind(call, viewed(b, b.of(call.args[0]), result_shape(call)))


def as_strided(b: Builder, call: Call) -> None:
    """The form that a reshape inside of torch's own decompositions takes."""
    x, shape = b.of(call.args[0]), result_shape(call)
    wanted = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
    whole = prod(shape) == x.type.elements and call.args[3] in (0, None)
    if call.args[2] != wanted or not whole:
        raise refuse(call, "picks elements by strides; only a reshape is supported")
    b.bind(call, viewed(b, x, shape))


def permuted(b: Builder, x: Value, dims: tuple[int, ...], part: str = "permute") -> Value:
    """``x`` with its dimensions in the order ``dims``; one permutation where it is permuted."""
    source, before = b.permuted_from.get(x, (x, tuple(range(len(dims)))))
    dims = tuple(before[d] for d in dims)
    if dims == tuple(range(len(dims))):
        return source
    shape = tuple(shape_of(source)[d] for d in dims)
    long = [d for d in dims if shape_of(source)[d] != 1]
    if long == sorted(long):
        return viewed(b, source, shape)
    made = b.one("permute", (source,), part, shape, dims=dims)
    b.permuted_from[made] = source, dims
    return made


def permute(b: Builder, call: Call) -> None:
    """Permutation of all dimensions."""
    x, rank = b.of(call.args[0]), len(result_shape(call))
    listed = call.args[1]
    assert isinstance(listed, tuple)
    b.bind(call, permuted(b, x, tuple(d % rank for d in listed if isinstance(d, int))))


def transpose(b: Builder, call: Call) -> None:
    """Exchange of two dimensions; ``t`` exchanges the first two."""
    x, rank = b.of(call.args[0]), len(result_shape(call))
    one, two = call.args[1:3] if len(call.args) > 2 else (0, min(1, rank - 1))
    dims = list(range(rank))
    i, j = _position(one, rank), _position(two, rank)
    dims[i], dims[j] = dims[j], dims[i]
    b.bind(call, permuted(b, x, tuple(dims)))


def _position(value: Arg, size: int) -> int:
    """A position that may count from the end."""
    assert isinstance(value, int)
    return value + size if value < 0 else value


def sliced(b: Builder, x: Value, dim: int, start: int, length: int, step: int = 1) -> Value:
    """``length`` positions of one dimension: start, start + step, ..."""
    if length == shape_of(x)[dim]:
        return x
    shape = (*shape_of(x)[:dim], length, *shape_of(x)[dim + 1 :])
    return b.one("slice", (x,), "slice", shape, dim=dim, start=start, step=step)


def _start(value: Arg, size: int) -> int:
    return 0 if value is None else min(max(_position(value, size), 0), size)


def slice_(b: Builder, call: Call) -> None:
    """x[start:end:step] in one dimension."""
    x, shape = b.of(call.args[0]), result_shape(call)
    dim, start, step = _position(call.args[1], len(shape)), call.args[2], call.args[4]
    assert isinstance(step, int)
    b.bind(call, sliced(b, x, dim, _start(start, shape_of(x)[dim]), shape[dim], step))


def slice_backward(b: Builder, call: Call) -> None:
    """Zeros around the gradient of a slice."""
    g, _, dim_arg, start, _, step = call.args
    shape = result_shape(call)
    dim = _position(dim_arg, len(shape))
    assert isinstance(step, int)
    b.bind(call, _placed(b, b.of(g), shape, dim, _start(start, shape[dim]), step))


def _placed(b: Builder, g: Value, shape: Shape, dim: int, start: int, step: int) -> Value:
    if shape_of(g) == shape:
        return g
    return b.one("slice_grad", (g,), "slice.dx", shape, dim=dim, start=start, step=step)


def select(b: Builder, call: Call) -> None:
    """x[index] in one dimension, which then goes."""
    x = b.of(call.args[0])
    dim = _position(call.args[1], len(shape_of(x)))
    index = _position(call.args[2], shape_of(x)[dim])
    b.bind(call, viewed(b, sliced(b, x, dim, index, 1), result_shape(call)))


def select_backward(b: Builder, call: Call) -> None:
    """Zeros around the gradient of one position."""
    g, _, dim_arg, index = call.args
    shape = result_shape(call)
    dim = _position(dim_arg, len(shape))
    thin = viewed(b, b.of(g), (*shape[:dim], 1, *shape[dim + 1 :]))
    b.bind(call, _placed(b, thin, shape, dim, _position(index, shape[dim]), 1))


def pad(b: Builder, call: Call) -> None:
    """A border of one value; a negative border cuts."""
    x, sides, value = call.args
    assert isinstance(sides, tuple) and isinstance(value, (int, float))
    v, shape = b.of(x), result_shape(call)
    before = [0] * len(shape)
    for i in range(len(sides) // 2):
        dim, low, high = len(shape) - 1 - i, sides[2 * i], sides[2 * i + 1]
        assert isinstance(low, int) and isinstance(high, int)
        before[dim] = max(low, 0)
        v = sliced(b, v, dim, max(-low, 0), shape_of(v)[dim] + min(low, 0) + min(high, 0))
    if shape_of(v) != shape:
        v = b.one("pad", (v,), "pad", shape, before=tuple(before), value=float(value))
    b.bind(call, v)


def cat(b: Builder, call: Call) -> None:
    """Tensors one after the other along a dimension; empty ones, as of a cache, may be there."""
    parts, shape = call.args[0], result_shape(call)
    assert isinstance(parts, tuple)
    filled = [p for p in parts if not (isinstance(p, JointTensor) and 0 in p.shape)]
    inputs = tuple(map(b.of, filled))
    dim = _position(call.args[1], len(shape))
    b.bind(call, b.one("cat", inputs, "cat", shape, dim=dim) if len(inputs) > 1 else inputs[0])


def stack(b: Builder, call: Call) -> None:
    """Tensors one after the other along a new dimension."""
    parts, shape = call.args[0], result_shape(call)
    assert isinstance(parts, tuple)
    dim = _position(call.args[1], len(shape))
    thin = (*shape[:dim], 1, *shape[dim + 1 :])
    inputs = tuple(viewed(b, b.of(p), thin) for p in parts)
    b.bind(call, b.one("cat", inputs, "cat", shape, dim=dim) if len(inputs) > 1 else inputs[0])


def split(b: Builder, call: Call) -> None:
    """Consecutive slices that cover a dimension."""
    x = b.of(call.args[0])
    dim = _position(call.args[2], len(shape_of(x)))
    lengths = [result_shape(call, i)[dim] for i in range(len(call.results))]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    b.bind(call, *(sliced(b, x, dim, s, n) for s, n in zip(starts, lengths, strict=True)))


def unbind(b: Builder, call: Call) -> None:
    """All positions of a dimension, which then goes."""
    x = b.of(call.args[0])
    dim = _position(call.args[1], len(shape_of(x)))
    shape = result_shape(call)
    every = (sliced(b, x, dim, i, 1) for i in range(len(call.results)))
    b.bind(call, *(viewed(b, part, shape) for part in every))


SHAPE: dict[str, CallLowering] = {
    "aten.alias.default": alias,
    "aten.clone.default": alias,
    "aten.detach.default": alias,
    "aten.view.default": view,
    "aten.as_strided.default": as_strided,
    "aten._unsafe_view.default": view,
    "aten.reshape.default": view,
    "aten.squeeze.default": view,
    "aten.squeeze.dim": view,
    "aten.squeeze.dims": view,
    "aten.unsqueeze.default": view,
    "aten.permute.default": permute,
    "aten.transpose.int": transpose,
    "aten.t.default": transpose,
    "aten.slice.Tensor": slice_,
    "aten.slice_backward.default": slice_backward,
    "aten.select.int": select,
    "aten.select_backward.default": select_backward,
    "aten.constant_pad_nd.default": pad,
    "aten.cat.default": cat,
    "aten.stack.default": stack,
    "aten.split.Tensor": split,
    "aten.split_with_sizes.default": split,
    "aten.unsafe_split.Tensor": split,
    "aten.unsafe_split_with_sizes.default": split,
    "aten.unbind.int": unbind,
}
