"""Single convolutions as jobs of a bench process: quatrain's kernels, and PyTorch's from oneDNN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ...compiler.formats import BF16, F32, FORMATS, INTS, UINTS
from ...compiler.ir import Op, Value, attrs
from ...compiler.types import Scale, TensorType
from .. import env
from .job import Job
from .layers import OURS, Layer

KINDS = {"forward": "conv2d", "dX": "conv2d_input_grad", "dW": "conv2d_weight_grad"}
# Which gradients torch's backward of a convolution is asked for: data, weight, bias.
MASKS = {"dX": [True, False, False], "dW": [False, True, False]}


def maker(request: Mapping[str, Any]) -> Callable[[], Job]:
    """What makes the job of a request; all libraries that it needs are loaded here."""
    layer, name = Layer(**request["layer"]), str(request["kernel"])
    if name == OURS:
        import_module("...targets.cpu.build", __package__)
        return lambda: _Kernel(layer)
    import torch

    torch.set_num_threads(env.threads())
    return lambda: _OneDnn(layer, name.split()[-1])


def convolution(layer: Layer) -> Op:
    """The op, in the formats and scales that the recipe ``ultra_low_4bit`` gives it."""
    image = (layer.batch, layer.channels, layer.size, layer.size)
    weight = (layer.channels, layer.channels, 3, 3)
    x = Value("xq", TensorType(image, UINTS[4], Scale.TENSOR))
    w = Value("wq", TensorType(weight, INTS[4], Scale.TENSOR))
    even = Value("even", TensorType(image, FORMATS["fp4.even"], Scale.POW2))
    odd = Value("odd", TensorType(image, FORMATS["fp4.odd"], Scale.POW2))
    operands = {"forward": (x, w), "dX": (even, w), "dW": (odd, x)}[layer.direction]
    made = TensorType(weight, F32) if layer.direction == "dW" else TensorType(image, BF16)
    how = attrs(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    return Op(KINDS[layer.direction], operands, (Value("made", made),), how, "layer")


class _Kernel:
    """The kernel that a compiled step runs for such a layer."""

    def __init__(self, layer: Layer) -> None:
        from ...targets.cpu.choose import gemm_kernel
        from ...targets.cpu.info import detect
        from ...targets.cpu.module import use_threads
        from ...targets.plan.layout import Order
        from .buffers import Alone

        op = convolution(layer)
        orders = dict.fromkeys((*op.inputs, *op.results), Order.PIXELS)
        if layer.direction == "dW":
            orders[op.result] = Order.ROWS
        use_threads(env.threads())
        self.step = Alone(gemm_kernel((op,), orders, detect()), orders, detect()).run

    def facts(self) -> dict[str, object]:
        """Nothing beside the time."""
        return {}


class _OneDnn:
    """PyTorch's convolution on channels-last tensors, forward or one gradient."""

    def __init__(self, layer: Layer, dtype: str) -> None:
        import torch
        from torch.nn.functional import conv2d

        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        image = (layer.batch, layer.channels, layer.size, layer.size)
        last = torch.channels_last
        x, dy = (torch.randn(image).to(kind).contiguous(memory_format=last) for _ in range(2))
        w = torch.randn(layer.channels, layer.channels, 3, 3).to(kind)
        w = w.contiguous(memory_format=last)
        both, none = [1, 1], [0, 0]
        self.step: Callable[[], object] = lambda: conv2d(x, w, padding=1)
        if layer.direction in MASKS:
            mask = MASKS[layer.direction]
            self.step = lambda: torch.ops.aten.convolution_backward(
                dy, x, w, None, both, both, both, False, none, 1, mask
            )

    def facts(self) -> dict[str, object]:
        """Nothing beside the time."""
        return {}
