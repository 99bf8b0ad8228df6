"""Operators that find numbers by their places, or put them there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import Known, NodeResults, ints, onnx_op, tensor_of
from ..graph import OnnxNode


def _counted(places: Tensor, size: int) -> Tensor:
    """Places counted from the end made such from the beginning."""
    return torch.where(places < 0, places + size, places)


@onnx_op("Gather", weights=["x"])
def gather(node: OnnxNode, x: Tensor, places: Tensor) -> NodeResults:
    """Whole rows along an axis; of a matrix along its first an embedding."""
    axis = node.whole("axis", 0) % max(x.dim(), 1)
    places = _counted(places, x.shape[axis])
    if axis == 0 and x.dim() == 2 and x.is_floating_point():
        return F.embedding(places, x)
    rows = x.index_select(axis, places.reshape(-1))
    return rows.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


@onnx_op("GatherElements")
def gather_elements(node: OnnxNode, x: Tensor, places: Tensor) -> NodeResults:
    """A number for each place along an axis."""
    axis = node.whole("axis", 0)
    return torch.gather(x, axis, _counted(places, x.shape[axis]))


@onnx_op("GatherND")
def gather_nd(node: OnnxNode, x: Tensor, places: Tensor) -> NodeResults:
    """Parts of the operand, by the first places of all its dimensions behind the batch's."""
    batch, depth = node.whole("batch_dims", 0), places.shape[-1]
    lead = [torch.arange(n, device=x.device) for n in x.shape[:batch]]
    shapes = [
        a.reshape([-1 if d == i else 1 for d in range(places.dim() - 1)])
        for i, a in enumerate(lead)
    ]
    found = [_counted(places[..., i], x.shape[batch + i]) for i in range(depth)]
    return x[(*shapes, *found)]


SUMS = {"none", "add"}


def _reduction(node: OnnxNode) -> bool:
    """Whether what is put adds to what is there."""
    word = node.word("reduction", "none")
    if word not in SUMS:
        node.refuse(f"reduces by {word!r}; a step has none and add")
    return word == "add"


@onnx_op("ScatterElements", "Scatter")
def scatter_elements(node: OnnxNode, x: Tensor, places: Tensor, updates: Tensor) -> NodeResults:
    """Numbers put at places along an axis."""
    axis = node.whole("axis", 0)
    index = _counted(places, x.shape[axis])
    if _reduction(node):
        return x.scatter_add(axis, index, updates)
    return x.scatter(axis, index, updates)


@onnx_op("ScatterND")
def scatter_nd(node: OnnxNode, x: Tensor, places: Tensor, updates: Tensor) -> NodeResults:
    """Parts put at the first places of the dimensions."""
    index = tuple(_counted(places[..., i], x.shape[i]) for i in range(places.shape[-1]))
    return x.index_put(index, updates, accumulate=_reduction(node))


@onnx_op("OneHot")
def one_hot(node: OnnxNode, places: Tensor, depth: Known, values: Tensor) -> NodeResults:
    """One of two values for each class, along a new axis."""
    count = int(depth.item())
    axis = node.whole("axis", -1) % (places.dim() + 1)
    classes = torch.arange(count, device=places.device)
    classes = classes.reshape([-1 if d == axis else 1 for d in range(places.dim() + 1)])
    places = places.to(torch.int64)
    hit = torch.where(places < 0, places + count, places).unsqueeze(axis) == classes
    return torch.where(hit, values[1], values[0])


@onnx_op("ReverseSequence")
def reverse_sequence(node: OnnxNode, x: Tensor, lengths: Known) -> NodeResults:
    """The first steps of each sequence in reverse, by lengths that are known."""
    time, batch = node.whole("time_axis", 0), node.whole("batch_axis", 1)
    rows = []
    for row, length in zip(x.unbind(batch), ints(lengths), strict=True):
        dim = time - (time > batch)
        head, tail = row.narrow(dim, 0, length), row.narrow(dim, length, row.shape[dim] - length)
        rows.append(torch.cat([head.flip(dim), tail], dim))
    return torch.stack(rows, batch)


@onnx_op("Compress")
def compress(node: OnnxNode, x: Tensor, condition: Known) -> NodeResults:
    """Rows along an axis where a known condition holds."""
    places = condition.reshape(-1).nonzero()[0]
    along = x if node.has("axis") else x.reshape(-1)
    return along.index_select(node.whole("axis", 0), tensor_of(places, x.device))
