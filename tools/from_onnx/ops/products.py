"""Products as functions: where the weight is computed, or shared by several nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import NodeResults, TensorOrNumber, onnx_op
from ..graph import MICROSOFT, OnnxNode
from ..window import SAME, NodeWindow, Sides, padded

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
}


@onnx_op("Conv", weights=["w", "b"])
def conv(node: OnnxNode, x: Tensor, w: Tensor, b: Tensor | None = None) -> NodeResults:
    """A convolution in one, two or three dimensions."""
    window = NodeWindow.of(node, w.shape[2:])
    x = padded(x, window.sides(x.shape[2:]))
    found = CONVOLUTIONS[_dimensions(node, w)]
    return found(x, w, b, window.stride, 0, window.dilation, node.whole("group", 1))


@onnx_op("ConvTranspose", weights=["w", "b"])
def conv_transpose(node: OnnxNode, x: Tensor, w: Tensor, b: Tensor | None = None) -> NodeResults:
    """The gradient of a convolution's input, with padding cut off its result."""
    window, found = NodeWindow.of(node, w.shape[2:]), TRANSPOSED[_dimensions(node, w)]
    group, dilation = node.whole("group", 1), window.dilation
    cut, more = _cut(node, window, x.shape[2:])
    if all(before == behind for before, behind in cut):
        both = tuple(before for before, _ in cut)
        return found(x, w, b, window.stride, both, more, group, dilation)
    y = found(x, w, b, window.stride, 0, more, group, dilation)
    return padded(y, tuple((-before, -behind) for before, behind in cut))


def _cut(node: OnnxNode, window: NodeWindow, sizes: Sequence[int]) -> tuple[Sides, tuple[int, ...]]:
    """What is cut off the result ahead and behind, and added behind it.

    By pads, or by the size that is asked for.
    """
    asked = node.ints("output_shape")
    more = node.ints("output_padding") or (0,) * len(window.kernel)
    if asked is None and window.automatic not in SAME:
        return window.sides(sizes), more
    wanted = asked or tuple(n * s for n, s in zip(sizes, window.stride, strict=True))
    made, added = [], []
    for size, want, reach, stride, extra in zip(
        sizes, wanted[-len(window.kernel) :], window.reach, window.stride, more, strict=True
    ):
        total = (size - 1) * stride + reach + extra - want
        less, larger = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        made.append((less, larger) if window.automatic == "SAME_UPPER" else (larger, less))
        added.append(extra + max(-total, 0))
    return tuple(made), tuple(added)


def _dimensions(node: OnnxNode, w: Tensor) -> int:
    if w.dim() - 2 not in CONVOLUTIONS:
        node.refuse(f"is a convolution in {w.dim() - 2} dimensions; known: 1, 2, 3")
    return w.dim() - 2


@onnx_op("Gemm", weights=["a", "b", "c"])
def gemm(node: OnnxNode, a: Tensor, b: Tensor, c: TensorOrNumber | None = None) -> NodeResults:
    """alpha a b + beta c, either matrix transposed."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    left = a.t() if node.whole("transA", 0) else a
    right = b.t() if node.whole("transB", 0) else b
    y = left @ right
    y = y if alpha == 1.0 else y * alpha
    return y if c is None else y + (c if beta == 1.0 else c * beta)


@onnx_op("MatMul", weights=["a", "b"])
def mat_mul(node: OnnxNode, a: Tensor, b: Tensor) -> NodeResults:
    """Of matrices, vectors, and stacks of matrices."""
    return torch.matmul(a, b)


@onnx_op("Einsum", weights=["xs"])
def einsum(node: OnnxNode, *xs: Tensor) -> NodeResults:
    """By an equation."""
    return torch.einsum(node.word("equation", ""), *xs)


def activated(node: OnnxNode, y: Tensor) -> Tensor:
    """The activation that onnxruntime has fused into a product."""
    word = node.word("activation", "")
    if word and word not in ACTIVATIONS:
        node.refuse(f"is fused with {word!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[word](y) if word else y


@onnx_op("FusedConv", domain=MICROSOFT, weights=["w", "b"])
def fused_conv(
    node: OnnxNode, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None
) -> NodeResults:
    """A convolution, another tensor added, an activation."""
    y = conv(node, x, w, b)
    assert isinstance(y, Tensor)
    return activated(node, y if z is None else y + z)


@onnx_op("FusedGemm", domain=MICROSOFT, weights=["a", "b", "c"])
def fused_gemm(
    node: OnnxNode, a: Tensor, b: Tensor, c: TensorOrNumber | None = None
) -> NodeResults:
    """A Gemm and an activation."""
    y = gemm(node, a, b, c)
    assert isinstance(y, Tensor)
    return activated(node, y)


@onnx_op("FusedMatMul", domain=MICROSOFT, weights=["a", "b"])
def fused_mat_mul(node: OnnxNode, a: Tensor, b: Tensor) -> NodeResults:
    """alpha a b, either transposed in its last two dimensions."""
    if node.whole("transBatchA", 0) or node.whole("transBatchB", 0):
        node.refuse("transposes batches of matrices; export the network without that fusion")
    left = a.transpose(-1, -2) if node.whole("transA", 0) and a.dim() > 1 else a
    right = b.transpose(-1, -2) if node.whole("transB", 0) and b.dim() > 1 else b
    y = torch.matmul(left, right)
    alpha = node.number("alpha", 1.0)
    return y if alpha == 1.0 else y * alpha
