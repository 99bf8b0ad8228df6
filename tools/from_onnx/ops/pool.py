"""Pooling: the largest or the mean of a window, or of all pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import NodeResults, onnx_op
from ..graph import OnnxNode
from ..window import NodeWindow, padded

MAXIMA: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEANS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pool(
    node: OnnxNode, window: NodeWindow, kinds: dict[int, Callable[..., Tensor]]
) -> Callable[..., Tensor]:
    if len(window.kernel) not in kinds:
        node.refuse(f"pools in {len(window.kernel)} dimensions; known: 1, 2, 3")
    return kinds[len(window.kernel)]


@onnx_op("MaxPool")
def max_pool(node: OnnxNode, x: Tensor) -> NodeResults:
    """The largest number of each window."""
    window = NodeWindow.of(node)
    if len([name for name in node.outputs if name]) > 1:
        node.refuse("gives the places of its maxima; a step has no unpooling")
    pool, sides = _pool(node, window, MAXIMA), window.sides(x.shape[2:])
    both = window.symmetric
    if both is not None and all(2 * p <= k for p, k in zip(both, window.kernel, strict=True)):
        return pool(x, window.kernel, window.stride, both, window.dilation, ceil_mode=window.ceil)
    over = window.overhang(x.shape[2:], sides)
    all_sides = tuple((a, b + o) for (a, b), (_, o) in zip(sides, over, strict=True))
    x = padded(x, all_sides, torch.finfo(x.dtype).min)
    return pool(x, window.kernel, window.stride, 0, window.dilation)


@onnx_op("AveragePool")
def average_pool(node: OnnxNode, x: Tensor) -> NodeResults:
    """The mean of each window, with its padding counted or not."""
    window, counted = NodeWindow.of(node), bool(node.whole("count_include_pad", 0))
    if set(window.dilation) != {1}:
        node.refuse(f"averages with dilations {list(window.dilation)}; a step has none there")
    pool, sides = _pool(node, window, MEANS), window.sides(x.shape[2:])
    over = window.overhang(x.shape[2:], sides)
    both = window.symmetric
    if (
        both is not None
        and all(o == 0 for _, o in over)
        and all(2 * p <= k for p, k in zip(both, window.kernel, strict=True))
    ):
        return pool(x, window.kernel, window.stride, both, count_include_pad=counted)
    ones = torch.ones((1, 1, *x.shape[2:]), device=x.device)
    ones = padded(padded(ones, sides, 1.0 if counted else 0.0), over)
    sums = pool(padded(padded(x, sides), over), window.kernel, window.stride)
    return sums / pool(ones, window.kernel, window.stride)


def _pixels(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@onnx_op("GlobalAveragePool")
def global_average_pool(node: OnnxNode, x: Tensor) -> NodeResults:
    """The mean of all pixels."""
    return x.mean(_pixels(x), keepdim=True)


@onnx_op("GlobalMaxPool")
def global_max_pool(node: OnnxNode, x: Tensor) -> NodeResults:
    """The largest of all pixels."""
    return torch.amax(x, _pixels(x), keepdim=True)


@onnx_op("GlobalLpPool")
def global_lp_pool(node: OnnxNode, x: Tensor) -> NodeResults:
    """The norm of all pixels."""
    p = node.whole("p", 2)
    return x.abs().pow(p).sum(_pixels(x), keepdim=True).pow(1 / p)


@onnx_op("LpPool")
def lp_pool(node: OnnxNode, x: Tensor) -> NodeResults:
    """The norm of each window."""
    window, p = NodeWindow.of(node), node.whole("p", 2)
    if set(window.dilation) != {1}:
        node.refuse(f"pools with dilations {list(window.dilation)}; a step has none there")
    sides = window.sides(x.shape[2:])
    over = window.overhang(x.shape[2:], sides)
    pool = _pool(node, window, MEANS)
    powers = padded(padded(x.abs().pow(p), sides), over)
    count = 1
    for size in window.kernel:
        count *= size
    return (pool(powers, window.kernel, window.stride) * count).pow(1 / p)
