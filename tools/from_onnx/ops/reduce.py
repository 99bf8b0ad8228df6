"""Operators that make one number of many: sums, means, extremes and their places."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..definitions import Known, NodeResults, define, ints, onnx_op
from ..graph import OnnxNode

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]
REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, dims, keep: x.abs().sum(dims, keep),
    "ReduceL2": lambda x, dims, keep: (x * x).sum(dims, keep).sqrt(),
    "ReduceLogSum": lambda x, dims, keep: x.sum(dims, keep).log(),
    "ReduceLogSumExp": lambda x, dims, keep: torch.logsumexp(x, dims, keep),
    "ReduceMax": lambda x, dims, keep: torch.amax(x, dims, keep),
    "ReduceMean": lambda x, dims, keep: x.mean(dims, keep),
    "ReduceMin": lambda x, dims, keep: torch.amin(x, dims, keep),
    "ReduceProd": lambda x, dims, keep: _product(x, dims, keep),
    "ReduceSum": lambda x, dims, keep: x.sum(dims, keep),
    "ReduceSumSquare": lambda x, dims, keep: (x * x).sum(dims, keep),
}
# The opset from which the axes are an operand and no attribute.
AXES_ARE_AN_OPERAND = {"ReduceSum": 13}
SINCE = 18


def _product(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for dim in sorted((d % max(x.dim(), 1) for d in dims), reverse=True):
        x = x.prod(dim, keep)
    return x


def _define_reduction(name: str, reduce: Reduction) -> None:
    since = AXES_ARE_AN_OPERAND.get(name, SINCE)

    def definition(node: OnnxNode, x: Tensor, axes: Known | None = None) -> NodeResults:
        given = node.ints("axes") if node.version < since else None if axes is None else ints(axes)
        if not given and node.whole("noop_with_empty_axes", 0):
            return reduce(x.unsqueeze(0), (0,), False)
        dims = given or tuple(range(x.dim()))
        return (
            reduce(x, dims, bool(node.whole("keepdims", 1)))
            if x.dim()
            else reduce(x.unsqueeze(0), (0,), False)
        )

    define([name], definition)


for _name, _reduction in REDUCTIONS.items():
    _define_reduction(_name, _reduction)


def _place(node: OnnxNode, x: Tensor, find: Callable[..., Tensor]) -> Tensor:
    dim, keep = node.whole("axis", 0), bool(node.whole("keepdims", 1))
    if not node.whole("select_last_index", 0):
        return find(x, dim=dim, keepdim=keep)
    last: Tensor = x.shape[dim] - 1 - find(x.flip(dim), dim=dim, keepdim=keep)
    return last


@onnx_op("ArgMax")
def arg_max(node: OnnxNode, x: Tensor) -> NodeResults:
    """The place of the largest number, of equal ones the first or the last."""
    return _place(node, x, torch.argmax)


@onnx_op("ArgMin")
def arg_min(node: OnnxNode, x: Tensor) -> NodeResults:
    """The place of the smallest number, of equal ones the first or the last."""
    return _place(node, x, torch.argmin)


@onnx_op("TopK")
def top_k(node: OnnxNode, x: Tensor, k: Known | None = None) -> NodeResults:
    """The k largest or smallest numbers, and their places."""
    count, axis = node.whole("k") if k is None else int(k.item()), node.whole("axis", -1)
    # A stable sort and no topk: of equal numbers the first comes first.
    made = torch.sort(x, stable=True, dim=axis, descending=bool(node.whole("largest", 1)))
    return made.values.narrow(axis, 0, count), made.indices.narrow(axis, 0, count)


@onnx_op("CumSum")
def cum_sum(node: OnnxNode, x: Tensor, axis: Known) -> NodeResults:
    """Running sums, from either end, with or without the number itself."""
    dim, backwards = int(axis.item()), bool(node.whole("reverse", 0))
    along = x.flip(dim) if backwards else x
    made = along.cumsum(dim)
    if node.whole("exclusive", 0):
        made = made - along
    return made.flip(dim) if backwards else made


@onnx_op("Hardmax")
def hard_max(node: OnnxNode, x: Tensor) -> NodeResults:
    """1 at the first largest number, else 0; ahead of opset 13 over all axes from one on."""
    axis = node.whole("axis", -1 if node.version >= 13 else 1)
    if node.version >= 13:
        places = x.argmax(axis, keepdim=True)
        return torch.zeros_like(x).scatter(axis, places, 1.0)
    rows = x.flatten(axis % x.dim())
    return torch.zeros_like(rows).scatter(-1, rows.argmax(-1, keepdim=True), 1.0).reshape(x.shape)


@onnx_op("LpNormalization")
def lp_normalization(node: OnnxNode, x: Tensor) -> NodeResults:
    """Divided by the norm along an axis; zeros stay zeros."""
    p, axis = node.whole("p", 2), node.whole("axis", -1)
    square = (x * x).sum(axis, keepdim=True)
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else square.sqrt()
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)
