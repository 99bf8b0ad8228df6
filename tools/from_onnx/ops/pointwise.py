"""Operators of single numbers: functions, arithmetic, comparisons, choices."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor

from ..definitions import (
    Known,
    NodeResults,
    NodeValue,
    TensorOrNumber,
    define,
    is_number,
    onnx_op,
    plain,
)
from ..graph import OnnxNode

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
PAIRS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
MIRRORED = {"GreaterOrEqual": "LessOrEqual", "Greater": "Less"}
MIRRORED |= {low: high for high, low in MIRRORED.items()}


def _define_function(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def definition(node: OnnxNode, x: Tensor) -> NodeResults:
        return function(x)

    define([name], definition)


def _define_pair(name: str, function: Callable[..., Tensor]) -> None:
    def definition(node: OnnxNode, a: TensorOrNumber, b: TensorOrNumber) -> NodeResults:
        if isinstance(a, Tensor):
            return function(a, b)
        assert isinstance(b, Tensor)
        if name in MIRRORED:
            return PAIRS[MIRRORED[name]](b, a)
        return function(b.new_tensor(a), b)

    define([name], definition)


for _name, _function in FUNCTIONS.items():
    _define_function(_name, _function)
for _name, _pair in PAIRS.items():
    _define_pair(_name, _pair)


@onnx_op("Div")
def div(node: OnnxNode, a: TensorOrNumber, b: TensorOrNumber) -> NodeResults:
    """Of integers the quotient towards zero."""
    whole = any(isinstance(v, Tensor) and not v.is_floating_point() for v in (a, b))
    if isinstance(a, Tensor):
        return torch.div(a, b, rounding_mode="trunc" if whole else None)
    assert isinstance(b, Tensor)
    return torch.div(b.new_tensor(a), b, rounding_mode="trunc" if whole else None)


@onnx_op("Mod")
def mod(node: OnnxNode, a: Tensor, b: Tensor) -> NodeResults:
    """The remainder with the divisor's sign, as in Python; with ``fmod`` the dividend's."""
    return torch.fmod(a, b) if node.whole("fmod", 0) else torch.remainder(a, b)


@onnx_op("Sum")
def total(node: OnnxNode, *xs: Tensor) -> NodeResults:
    """The sum of all operands."""
    made = xs[0]
    for x in xs[1:]:
        made = made + x
    return made


@onnx_op("Mean")
def mean(node: OnnxNode, *xs: Tensor) -> NodeResults:
    """The mean of all operands."""
    made = total(node, *xs)
    assert isinstance(made, Tensor)
    return made / len(xs)


@onnx_op("Max")
def maximum(node: OnnxNode, *xs: Tensor) -> NodeResults:
    """The largest of all operands."""
    made = xs[0]
    for x in xs[1:]:
        made = torch.maximum(made, x)
    return made


@onnx_op("Min")
def minimum(node: OnnxNode, *xs: Tensor) -> NodeResults:
    """The smallest of all operands."""
    made = xs[0]
    for x in xs[1:]:
        made = torch.minimum(made, x)
    return made


@onnx_op("Clip")
def clip(
    node: OnnxNode, x: Tensor, low: TensorOrNumber | None = None, high: TensorOrNumber | None = None
) -> NodeResults:
    """Between bounds, which were attributes ahead of opset 11."""
    if node.version < 11:
        low = node.number("min") if node.has("min") else None
        high = node.number("max") if node.has("max") else None
    if low is not None:
        x = torch.clamp(x, min=low)
    return x if high is None else torch.clamp(x, max=high)


@onnx_op("Where")
def where(node: OnnxNode, condition: Tensor, a: TensorOrNumber, b: TensorOrNumber) -> NodeResults:
    """``a`` where the condition holds, else ``b``."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.where(condition, a, b)
    like = torch.tensor(a, device=condition.device)
    return torch.where(condition, like, torch.tensor(b, dtype=like.dtype, device=like.device))


@onnx_op("Identity")
def identity(node: OnnxNode, x: Tensor) -> NodeResults:
    """The operand itself."""
    return x


@onnx_op("Dropout")
def dropout(
    node: OnnxNode, x: Tensor, ratio: Known | None = None, training: Known | None = None
) -> NodeResults:
    """The operand: what drops is a layer, and this is one that its file never trains."""
    return x


@onnx_op("Cast")
def cast(node: OnnxNode, x: Tensor) -> NodeResults:
    """To the kind of number that the file asks for; floats of any width are float32."""
    return x.to(_carried(node, np.dtype(helper.tensor_dtype_to_np_dtype(node.whole("to")))))


def _dtype(value: Tensor | list[Tensor]) -> torch.dtype:
    return value.dtype if isinstance(value, Tensor) else value[0].dtype


def _carried(node: OnnxNode, kind: np.dtype) -> torch.dtype:
    if not is_number(kind):
        node.refuse(f"casts to {kind}; a step takes floats of 16 bits and more, and integers of 8")
    return torch.from_numpy(plain(np.zeros(1, kind))).dtype


@onnx_op("CastLike")
def cast_like(node: OnnxNode, x: Tensor, like: NodeValue) -> NodeResults:
    """To the kind of number of another operand."""
    return x.to(_carried(node, like.dtype) if isinstance(like, np.ndarray) else _dtype(like))


@onnx_op("IsInf")
def is_inf(node: OnnxNode, x: Tensor) -> NodeResults:
    """Whether a number is infinite, on the sides that the node asks about."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if node.whole("detect_positive", 1):
        found = found | (x == math.inf)
    if node.whole("detect_negative", 1):
        found = found | (x == -math.inf)
    return found


@onnx_op("LeakyRelu")
def leaky_relu(node: OnnxNode, x: Tensor) -> NodeResults:
    """Below zero a slope."""
    return F.leaky_relu(x, node.number("alpha", 0.01))


@onnx_op("PRelu", weights=["slope"])
def prelu(node: OnnxNode, x: Tensor, slope: Tensor) -> NodeResults:
    """Below zero a trained slope."""
    return torch.where(x < 0, x * slope, x)


@onnx_op("Elu")
def elu(node: OnnxNode, x: Tensor) -> NodeResults:
    """Below zero an exponential."""
    return F.elu(x, node.number("alpha", 1.0))


@onnx_op("Celu")
def celu(node: OnnxNode, x: Tensor) -> NodeResults:
    """The same with a continuous slope."""
    return F.celu(x, node.number("alpha", 1.0))


@onnx_op("Selu")
def selu(node: OnnxNode, x: Tensor) -> NodeResults:
    """Elu with a scale of its own."""
    alpha, gamma = node.number("alpha", 1.6732632), node.number("gamma", 1.0507010)
    return gamma * F.elu(x, alpha)


@onnx_op("HardSigmoid")
def hard_sigmoid(node: OnnxNode, x: Tensor) -> NodeResults:
    """A line between 0 and 1."""
    return torch.clamp(x * node.number("alpha", 0.2) + node.number("beta", 0.5), 0.0, 1.0)


@onnx_op("ThresholdedRelu")
def thresholded_relu(node: OnnxNode, x: Tensor) -> NodeResults:
    """Zero up to a threshold."""
    return torch.where(x > node.number("alpha", 1.0), x, torch.zeros_like(x))


@onnx_op("Gelu")
def gelu(node: OnnxNode, x: Tensor) -> NodeResults:
    """By erf, or by tanh where the node says so."""
    return F.gelu(x, approximate=node.word("approximate", "none"))


@onnx_op("Swish")
def swish(node: OnnxNode, x: Tensor) -> NodeResults:
    """x sigmoid(alpha x)"""
    return x * torch.sigmoid(x * node.number("alpha", 1.0))


def _rows(x: Tensor, axis: int) -> Tensor:
    """All dimensions from ``axis`` on as one, which softmax ran over ahead of opset 13."""
    return x.flatten(axis % x.dim() if x.dim() else 0)


@onnx_op("Softmax")
def softmax(node: OnnxNode, x: Tensor) -> NodeResults:
    """Over one axis; ahead of opset 13 over all from it on."""
    if node.version >= 13:
        return torch.softmax(x, node.whole("axis", -1))
    return torch.softmax(_rows(x, node.whole("axis", 1)), -1).reshape(x.shape)


@onnx_op("LogSoftmax")
def log_softmax(node: OnnxNode, x: Tensor) -> NodeResults:
    """The logarithm of ``softmax``."""
    if node.version >= 13:
        return torch.log_softmax(x, node.whole("axis", -1))
    return torch.log_softmax(_rows(x, node.whole("axis", 1)), -1).reshape(x.shape)


@onnx_op("RandomNormalLike")
def random_normal_like(node: OnnxNode, x: Tensor) -> NodeResults:
    """Drawn anew at each call."""
    return torch.randn_like(x) * node.number("scale", 1.0) + node.number("mean", 0.0)


@onnx_op("RandomUniformLike")
def random_uniform_like(node: OnnxNode, x: Tensor) -> NodeResults:
    """Drawn anew at each call."""
    low, high = node.number("low", 0.0), node.number("high", 1.0)
    return torch.rand_like(x) * (high - low) + low


@onnx_op("Bernoulli")
def bernoulli(node: OnnxNode, x: Tensor) -> NodeResults:
    """1 with the probability that the operand says, drawn anew at each call."""
    return torch.bernoulli(x)
