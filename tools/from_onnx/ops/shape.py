"""Operators that move numbers and leave them as they are, and those that speak of sizes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import Known, NodeResults, NodeValue, ints, onnx_op, tensor_of
from ..graph import OnnxNode


@onnx_op("Shape")
def shape(node: OnnxNode, x: Tensor) -> NodeResults:
    """The sizes, known whenever the network is traced."""
    sizes = np.array(tuple(map(int, x.shape)), np.int64)
    last = node.whole("end") if node.has("end") else len(sizes)
    return sizes[node.whole("start", 0) : last]


@onnx_op("Size")
def size(node: OnnxNode, x: Tensor) -> NodeResults:
    """How many numbers there are."""
    return np.array(x.numel(), np.int64)


@onnx_op("Reshape")
def reshape(node: OnnxNode, x: Tensor, shape: Known) -> NodeResults:
    """To other sizes: -1 is what is left, 0 the operand's own unless ``allowzero``."""
    sizes = list(ints(shape))
    if not node.whole("allowzero", 0):
        sizes = [x.shape[i] if s == 0 else s for i, s in enumerate(sizes)]
    return x.reshape(sizes)


@onnx_op("Flatten")
def flatten(node: OnnxNode, x: Tensor) -> NodeResults:
    """To a matrix: dimensions ahead of an axis, and from it on."""
    axis = node.whole("axis", 1)
    axis += x.dim() if axis < 0 else 0
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return (
        x.reshape(rows, -1)
        if x.numel()
        else x.reshape(rows, int(np.prod(x.shape[axis:], dtype=np.int64)))
    )


@onnx_op("Transpose")
def transpose(node: OnnxNode, x: Tensor) -> NodeResults:
    """Dimensions in another order; without one, in reverse."""
    order = node.ints("perm")
    return x.permute(tuple(reversed(range(x.dim()))) if order is None else order)


def _axes(node: OnnxNode, axes: np.ndarray | None) -> tuple[int, ...] | None:
    """The axes, which were an attribute ahead of opset 13."""
    if node.version < 13:
        return node.ints("axes")
    return None if axes is None else ints(axes)


@onnx_op("Squeeze")
def squeeze(node: OnnxNode, x: Tensor, axes: Known | None = None) -> NodeResults:
    """Without some dimensions of size 1, or without all."""
    dims = _axes(node, axes)
    if dims is None:
        return x.squeeze()
    long = [d for d in dims if x.shape[d] != 1]
    if long:
        node.refuse(f"squeezes dimension {long[0]} of {tuple(x.shape)}, whose size is not 1")
    return x.squeeze(dims)


@onnx_op("Unsqueeze")
def unsqueeze(node: OnnxNode, x: Tensor, axes: Known | None = None) -> NodeResults:
    """With dimensions of size 1 at places of the result."""
    dims = _axes(node, axes)
    if dims is None:
        node.refuse("has no axes; the operator demands them")
    rank = x.dim() + len(dims)
    for dim in sorted(d % rank for d in dims):
        x = x.unsqueeze(dim)
    return x


@onnx_op("Concat")
def concat(node: OnnxNode, *xs: Tensor) -> NodeResults:
    """One behind the other along an axis."""
    return torch.cat(xs, node.whole("axis"))


@onnx_op("Split")
def split(node: OnnxNode, x: Tensor, sizes: Known | None = None) -> NodeResults:
    """In parts along an axis: of given sizes, or as equal as can be."""
    axis = node.whole("axis", 0)
    parts = node.ints("split") if node.version < 13 else None if sizes is None else ints(sizes)
    if parts is None:
        count, length = node.whole("num_outputs", len(node.outputs)), x.shape[axis]
        each = -(-length // count)
        parts = tuple(min(each, length - i * each) for i in range(count))
    return torch.split(x, list(parts), axis)


@onnx_op("SplitToSequence")
def split_to_sequence(node: OnnxNode, x: Tensor, sizes: Known | None = None) -> NodeResults:
    """In parts as a sequence: of given sizes, of one size, or one for each place."""
    axis = node.whole("axis", 0)
    if sizes is None:
        parts = x.split(1, axis)
        return list(parts if node.whole("keepdims", 1) else (p.squeeze(axis) for p in parts))
    return list(x.split(int(sizes.item()) if sizes.ndim == 0 else list(ints(sizes)), axis))


@onnx_op("SequenceAt")
def sequence_at(node: OnnxNode, parts: NodeValue, place: Known) -> NodeResults:
    """One part of a sequence."""
    assert isinstance(parts, list), f"{node.place} takes a sequence"
    return parts[int(place.item())]


@onnx_op("Slice")
def slice_(
    node: OnnxNode,
    x: Tensor,
    starts: Known | None = None,
    ends: Known | None = None,
    axes: Known | None = None,
    steps: Known | None = None,
) -> NodeResults:
    """Every so many places between two, along some axes; attributes ahead of opset 10."""
    if node.version < 10:
        first, last = node.ints("starts") or (), node.ints("ends") or ()
        dims = node.ints("axes")
    else:
        assert starts is not None and ends is not None, f"{node.place} has no starts and ends"
        first, last, dims = ints(starts), ints(ends), None if axes is None else ints(axes)
    dims = tuple(range(len(first))) if dims is None else dims
    strides = (1,) * len(first) if steps is None else ints(steps)
    for dim, start, end, step in zip(dims, first, last, strides, strict=True):
        x = _slice(x, dim, slice(start, end, step))
    return x


def _slice(x: Tensor, dim: int, along: slice) -> Tensor:
    """``x[..., along, ...]``; backwards by flipping, which torch's slices are not."""
    start, end, step = along.indices(x.shape[dim])
    if step > 0:
        index = [slice(None)] * (dim % x.dim()) + [slice(start, max(end, start), step)]
        return x[tuple(index)]
    places = range(start, end, step)
    if not places:
        return x.narrow(dim, 0, 0)
    return _slice(x.flip(dim), dim, slice(x.shape[dim] - 1 - start, x.shape[dim] - 1 - end, -step))


@onnx_op("Expand")
def expand(node: OnnxNode, x: Tensor, shape: Known) -> NodeResults:
    """Repeated to the sizes that it broadcasts to with others."""
    return x.expand(np.broadcast_shapes(tuple(x.shape), ints(shape)))


@onnx_op("Tile")
def tile(node: OnnxNode, x: Tensor, repeats: Known) -> NodeResults:
    """Repeated so many times along each dimension."""
    return x.repeat(ints(repeats))


@onnx_op("Pad")
def pad(
    node: OnnxNode,
    x: Tensor,
    pads: Known | None = None,
    value: Known | None = None,
    axes: Known | None = None,
) -> NodeResults:
    """Wider, or narrower, by a number, an edge, or what lies inside; attributes ahead of 11."""
    if node.version < 11:
        widths, number = node.ints("pads") or (), node.number("value", 0.0)
    else:
        widths = () if pads is None else ints(pads)
        number = 0.0 if value is None else value.item()
    dims = range(x.dim()) if axes is None else [d % x.dim() for d in ints(axes)]
    sides = dict(zip(dims, zip(widths, widths[len(widths) // 2 :], strict=False), strict=True))
    mode = node.word("mode", "constant")
    if mode == "constant":
        flat = [w for d in reversed(range(x.dim())) for w in sides.get(d, (0, 0))]
        return F.pad(x, flat, value=number)
    for dim, (before, behind) in sides.items():
        x = _padded(node, x, dim, mode, before, behind)
    return x


_NUMPY_MODES = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}


def _padded(node: OnnxNode, x: Tensor, dim: int, mode: str, before: int, behind: int) -> Tensor:
    """Wider along one dimension: rows of the operand, at places that NumPy says."""
    if mode not in _NUMPY_MODES:
        node.refuse(f"pads in mode {mode!r}; known: constant, {', '.join(_NUMPY_MODES)}")
    places = np.arange(x.shape[dim])
    places = places[max(-before, 0) : len(places) - max(-behind, 0)]
    wider = (max(before, 0), max(behind, 0))
    if wider != (0, 0):
        places = np.pad(places, wider, _NUMPY_MODES[mode])  # type: ignore[call-overload]
    return x.index_select(dim, tensor_of(places, x.device))


@onnx_op("EyeLike")
def eye_like(node: OnnxNode, x: Tensor) -> NodeResults:
    """Ones on a diagonal; of the operand only its sizes count."""
    rows, columns = map(int, x.shape)
    kind = np.float32 if x.is_floating_point() else np.int64
    return np.eye(rows, columns, k=node.whole("k", 0)).astype(kind)


@onnx_op("Trilu")
def trilu(node: OnnxNode, x: Tensor, k: Known | None = None) -> NodeResults:
    """The part above a diagonal, or below it."""
    diagonal = 0 if k is None else int(k.item())
    return torch.triu(x, diagonal) if node.whole("upper", 1) else torch.tril(x, diagonal)


@onnx_op("DepthToSpace")
def depth_to_space(node: OnnxNode, x: Tensor) -> NodeResults:
    """Channels become pixels, in one of two orders."""
    n, c, h, w = x.shape
    b = node.whole("blocksize")
    if node.word("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // b**2, h * b, w * b)


@onnx_op("SpaceToDepth")
def space_to_depth(node: OnnxNode, x: Tensor) -> NodeResults:
    """Pixels become channels."""
    n, c, h, w = x.shape
    b = node.whole("blocksize")
    if node.word("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(x, b)
    y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b**2, h // b, w // b)
