"""Normalizations as functions: where their statistics and weights are no module's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import NodeResults, onnx_op
from ..graph import OnnxNode


@onnx_op("BatchNormalization", weights=["scale", "bias"])
def batch_normalization(
    node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> NodeResults:
    """By statistics that the graph computes itself."""
    return F.batch_norm(x, mean, var, scale, bias, eps=node.number("epsilon", 1e-5))


@onnx_op("InstanceNormalization", weights=["scale", "bias"])
def instance_normalization(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor) -> NodeResults:
    """Over the pixels of each channel of each sample."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.number("epsilon", 1e-5))


@onnx_op("GroupNormalization", weights=["scale", "bias"])
def group_normalization(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor) -> NodeResults:
    """Over groups of channels, as of opset 21; the operator of opset 18 was withdrawn."""
    return F.group_norm(x, node.whole("num_groups"), scale, bias, node.number("epsilon", 1e-5))


@onnx_op("LayerNormalization", weights=["scale", "bias"])
def layer_normalization(
    node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> NodeResults:
    """Over all dimensions from an axis on; also the mean, and one by the deviation."""
    axis = node.whole("axis", -1) % x.dim()
    sizes, eps = x.shape[axis:], node.number("epsilon", 1e-5)
    same = scale.shape == sizes and (bias is None or bias.shape == sizes)
    if same:
        y = F.layer_norm(x, sizes, scale, bias, eps)
    else:
        y = F.layer_norm(x, sizes, eps=eps) * scale
        y = y if bias is None else y + bias
    if len(node.outputs) == 1:
        return y
    dims = tuple(range(axis, x.dim()))
    mean = x.mean(dims, keepdim=True)
    return y, mean, torch.rsqrt(x.var(dims, unbiased=False, keepdim=True) + eps)


@onnx_op("RMSNormalization", "SimplifiedLayerNormalization", weights=["scale"])
def rms_normalization(node: OnnxNode, x: Tensor, scale: Tensor) -> NodeResults:
    """By the root of the mean square from an axis on."""
    axis = node.whole("axis", -1) % x.dim()
    square = (x * x).mean(tuple(range(axis, x.dim())), keepdim=True)
    return x * torch.rsqrt(square + node.number("epsilon", 1e-5)) * scale


@onnx_op("MeanVarianceNormalization")
def mean_variance_normalization(node: OnnxNode, x: Tensor) -> NodeResults:
    """To mean 0 and variance 1 over some axes."""
    axes = node.ints("axes") or (0, 2, 3)
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + 1e-9)


@onnx_op("LRN")
def lrn(node: OnnxNode, x: Tensor) -> NodeResults:
    """By the squares of neighbouring channels."""
    width, channels = node.whole("size"), x.shape[1]
    before = (width - 1) // 2
    sides = (0, 0) * (x.dim() - 2) + (before, width - 1 - before)
    squares = F.pad(x * x, sides)
    total = squares.narrow(1, 0, channels)
    for i in range(1, width):
        total = total + squares.narrow(1, i, channels)
    scale = node.number("bias", 1.0) + total * (node.number("alpha", 1e-4) / width)
    return x * scale.pow(-node.number("beta", 0.75))
