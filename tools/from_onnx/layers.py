"""Nodes that become modules of torch: a node whose weights are its own.

So that a network that was read prints, is chosen from and is saved like one that was written:
``isinstance(module, nn.Conv2d)`` holds, and norms and dropouts follow ``train()`` and ``eval()``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .definitions import tensor_of
from .graph import STANDARD, OnnxNode
from .ops.recurrent import Recurrence, States, check_peepholes, flat_weights, run_recurrent
from .window import NodeWindow, padded

CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
TRANSPOSED: dict[int, type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
Arrays = Mapping[str, np.ndarray]
# A layer of a node, the arrays of its operands by name, and the rank of its first; or None.
Make = Callable[[OnnxNode, Arrays, int], nn.Module | None]
LAYERS: dict[str, Make] = {}


def make_layer(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    """The module of a node whose weights are ``arrays``; None where none says the same.

    ``rank`` is the number of dimensions of its first operand, 0 where it is not known.
    """
    make = LAYERS.get(node.op) if node.domain == STANDARD else None
    return None if make is None else make(node, arrays, rank)


def _layer(*ops: str) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        LAYERS.update(dict.fromkeys(ops, make))
        return make

    return register


def _fill(module: nn.Module, **arrays: np.ndarray | None) -> nn.Module:
    """Copy arrays into the parameters and buffers of these names."""
    with torch.no_grad():
        for name, array in arrays.items():
            if array is not None:
                getattr(module, name).copy_(tensor_of(array))
    return module


@_layer("Conv")
def _conv(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    w = arrays.get("w")
    if w is None or w.ndim - 2 not in CONVOLUTIONS:
        return None
    window, groups = NodeWindow.of(node, w.shape[2:]), node.whole("group", 1)
    kind, ahead = CONVOLUTIONS[w.ndim - 2], window.symmetric
    module = kind(
        *(w.shape[1] * groups, w.shape[0]),
        kernel_size=window.kernel,  # type: ignore[arg-type]
        stride=window.stride,  # type: ignore[arg-type]
        padding=ahead or (0,) * len(window.kernel),  # type: ignore[arg-type]
        dilation=window.dilation,  # type: ignore[arg-type]
        groups=groups,
        bias="b" in arrays,
    )
    _fill(module, weight=w, bias=arrays.get("b"))
    if ahead is None:
        module.register_forward_pre_hook(Widen(window))
    return module


class Widen:
    """A hook that pads what a layer gets, where the two sides differ or sizes decide."""

    def __init__(self, window: NodeWindow) -> None:
        self.window = window

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The operand, wider."""
        x, *rest = args
        return padded(x, self.window.sides(x.shape[2:])), *rest


@_layer("ConvTranspose")
def _conv_transpose(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    w = arrays.get("w")
    if w is None or w.ndim - 2 not in TRANSPOSED:
        return None
    window, groups = NodeWindow.of(node, w.shape[2:]), node.whole("group", 1)
    asked = node.ints("output_shape") is not None or window.automatic not in ("NOTSET", "VALID")
    ahead = None if asked else window.symmetric
    if ahead is None:
        return None
    module = TRANSPOSED[w.ndim - 2](
        *(w.shape[0], w.shape[1] * groups),
        kernel_size=window.kernel,  # type: ignore[arg-type]
        stride=window.stride,  # type: ignore[arg-type]
        padding=ahead,  # type: ignore[arg-type]
        output_padding=node.ints("output_padding") or 0,  # type: ignore[arg-type]
        groups=groups,
        bias="b" in arrays,
        dilation=window.dilation,  # type: ignore[arg-type]
    )
    return _fill(module, weight=w, bias=arrays.get("b"))


def _linear(weight: np.ndarray, bias: np.ndarray | None) -> nn.Module:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _fill(module, weight=weight, bias=bias)


@_layer("MatMul")
def _mat_mul(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    b = arrays.get("b")
    if b is None or b.ndim != 2 or "a" in arrays:
        return None
    return _linear(b.T, arrays.get("c"))


@_layer("Gemm")
def _gemm(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    b, c = arrays.get("b"), arrays.get("c")
    scales = (node.number("alpha", 1.0), node.number("beta", 1.0))
    if b is None or "a" in arrays or node.whole("transA", 0) or scales != (1.0, 1.0):
        return None
    weight = b if node.whole("transB", 0) else b.T
    if c is not None:
        if c.size != weight.shape[0] or c.shape[-1:] != (c.size,):
            return None
        c = c.reshape(-1)
    return _linear(weight, c)


@_layer("BatchNormalization")
def _batch_norm(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    if set(arrays) < {"scale", "bias", "mean", "var"} or rank not in BATCH_NORMS:
        return None
    eps, momentum = node.number("epsilon", 1e-5), 1 - node.number("momentum", 0.9)
    module = BATCH_NORMS[rank](arrays["scale"].size, eps, momentum)
    statistics = {"running_mean": arrays["mean"], "running_var": arrays["var"]}
    return _fill(module, weight=arrays["scale"], bias=arrays["bias"], **statistics)


@_layer("InstanceNormalization")
def _instance_norm(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    if set(arrays) < {"scale", "bias"} or rank not in INSTANCE_NORMS:
        return None
    module = INSTANCE_NORMS[rank](arrays["scale"].size, node.number("epsilon", 1e-5), affine=True)
    return _fill(module, weight=arrays["scale"], bias=arrays["bias"])


@_layer("LayerNormalization")
def _layer_norm(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    scale, bias, axis = arrays.get("scale"), arrays.get("bias"), node.whole("axis", -1)
    if scale is None or (bias is not None and bias.shape != scale.shape) or any(node.outputs[1:]):
        return None
    if (axis if axis < 0 else axis - rank if rank else 0) != -scale.ndim:
        return None
    module = nn.LayerNorm(scale.shape, node.number("epsilon", 1e-5), bias=bias is not None)
    return _fill(module, weight=scale, bias=bias)


@_layer("GroupNormalization")
def _group_norm(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    if set(arrays) < {"scale", "bias"}:
        return None
    eps, scale = node.number("epsilon", 1e-5), arrays["scale"]
    module = nn.GroupNorm(node.whole("num_groups"), scale.size, eps)
    return _fill(module, weight=scale, bias=arrays["bias"])


@_layer("Gather")
def _embedding(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    x = arrays.get("x")
    if x is None or x.ndim != 2 or node.whole("axis", 0) not in (0, -2) or "places" in arrays:
        return None
    return _fill(nn.Embedding(*x.shape), weight=x)


@_layer("Dropout")
def _dropout(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    rate = float(arrays["ratio"].item()) if "ratio" in arrays else node.number("ratio", 0.5)
    return Drop(min(max(rate, 0.0), 1.0))


class Drop(nn.Dropout):
    """A dropout; what else its file says - whether it trains - is for ``train()`` to say."""

    def forward(self, x: Tensor, *ignored: object) -> Tensor:
        """Some numbers dropped, in training."""
        return super().forward(x)


@_layer("LSTM", "GRU", "RNN")
def _recurrent(node: OnnxNode, arrays: Arrays, rank: int) -> nn.Module | None:
    if "w" not in arrays or "r" not in arrays or Recurrence.of(node).reset_first:
        return None
    check_peepholes(node, arrays.get("p"))
    return RecurrentLayer(node, arrays)


class RecurrentLayer(nn.Module):
    """A recurrent network of torch with the operands and results of ONNX."""

    def __init__(self, node: OnnxNode, arrays: Arrays) -> None:
        super().__init__()
        of, w = Recurrence.of(node), arrays["w"]
        self.node = node
        options = {"nonlinearity": of.activation} if of.kind == "RNN" else {}
        self.cells: nn.RNNBase = getattr(nn, of.kind)(
            *(w.shape[2], of.hidden),
            bias="b" in arrays,
            bidirectional=of.directions == 2,
            **options,
        )
        flat = [None if n not in arrays else tensor_of(arrays[n]) for n in "wrb"]
        assert flat[0] is not None and flat[1] is not None
        made = flat_weights(of.kind, flat[0], flat[1], flat[2])
        with torch.no_grad():
            for parameter, weight in zip(self.cells.parameters(), made, strict=True):
                parameter.copy_(weight)

    def forward(
        self, x: Tensor, lengths: np.ndarray | None = None, *first: Tensor | None
    ) -> tuple[Tensor, ...]:
        """All hidden states, and the last ones."""
        return run_recurrent(self.node, self._run, x, lengths, first[:2])

    def _run(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        y, last = self.cells(x, states if len(states) == 2 else states[0])
        return y, last if isinstance(last, tuple) else (last,)
