"""QuantizeLinear and DequantizeLinear: a recipe rounds anew, so only a pair's range stays.

What is quantized is carried as the numbers that its codes stand for. A pair that cannot hold a
number limits it, as it may be the ReLU that a quantizer has folded into it.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from onnx import helper
from torch import Tensor

from ..definitions import Known, NodeResults, onnx_op, tensor_of
from ..graph import OnnxNode

INTEGERS = (
    "computes with integers; a recipe chooses formats itself, so export the float network, or one "
    "with QuantizeLinear and DequantizeLinear around float operators"
)


@onnx_op("QuantizeLinear")
def quantize_linear(
    node: OnnxNode, x: Tensor, scale: Known, zero: Known | None = None
) -> NodeResults:
    """``x`` within what the codes reach; it is not rounded."""
    codes = _codes(node) if zero is None else zero.dtype
    if codes.kind not in "iu" and "int" not in codes.name:
        return x  # codes that are floats themselves
    least, most = _reach(codes)
    middle = np.zeros((), np.float32) if zero is None else zero.astype(np.float32)
    low, high = (np.asarray((v - middle) * scale.astype(np.float32)) for v in (least, most))
    if low.ndim == 0 or low.size == 1:
        return torch.clamp(x, float(low.item()), float(high.item()))
    shape = _shape(node, x, low)
    bounds = [tensor_of(np.broadcast_to(v.reshape(shape), shape), x.device) for v in (low, high)]
    return torch.minimum(torch.maximum(x, bounds[0]), bounds[1])


def _codes(node: OnnxNode) -> np.dtype:
    """The codes where no zero point says so."""
    kind = node.whole("output_dtype", 0)
    return np.dtype(helper.tensor_dtype_to_np_dtype(kind) if kind else np.uint8)


def _reach(codes: np.dtype) -> tuple[int, int]:
    """The least and the largest code, of 2 and 4 bits too."""
    info = ml_dtypes.iinfo(codes)  # type: ignore[no-untyped-call]
    return int(info.min), int(info.max)


def _shape(node: OnnxNode, x: Tensor, each: np.ndarray) -> list[int]:
    """The shape by which a number for each place of an axis meets ``x``."""
    if node.whole("block_size", 0) or each.ndim != 1:
        node.refuse("quantizes the network's numbers in blocks; export it without")
    shape = [1] * x.dim()
    shape[node.whole("axis", 1)] = -1
    return [len(each) if s == -1 else s for s in shape]


@onnx_op("DequantizeLinear")
def dequantize_linear(
    node: OnnxNode, x: Tensor, scale: Known, zero: Known | None = None
) -> NodeResults:
    """What the codes stand for; where they are carried as such numbers, those."""
    if x.is_floating_point():
        return x
    if scale.size != 1:
        node.refuse("decodes integers of the batch with more than one scale")
    middle = 0.0 if zero is None else float(zero.item())
    return (x.to(torch.float32) - middle) * float(scale.item())


def _define_refused(name: str, domain: str) -> None:
    @onnx_op(name, domain=domain)
    def refused(node: OnnxNode, *operands: Tensor) -> NodeResults:
        node.refuse(INTEGERS)


for _name in (
    *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"),
):
    _define_refused(_name, "")
for _name in (
    *("QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool", "QGemm"),
    *("QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QAttention"),
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "DynamicQuantizeLSTM"),
):
    _define_refused(_name, "com.microsoft")
