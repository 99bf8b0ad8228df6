"""Interception: while a graph is traced, every layer call ends in an op of ``capture_layers``.

Kernels of ATen's composite ``linear`` and ``conv2d`` are replaced, which is below nn modules, F.*
and user code alike and above autograd.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as nn_module

from . import capture_layers
from .capture_adapter import override
from .capture_scope import Scope
from .errors import CaptureError

aten = torch.ops.aten
qtr = capture_layers.qtr
LOCK = threading.RLock()
Ints = int | list[int]


def _pair(value: Ints) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


class Layers:
    """What the composite ops become: each call ends in one op that carries the layer's name."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def table(self) -> dict[Any, Callable[..., Tensor]]:
        """The replaced ops."""
        return {
            aten.linear.default: self.linear,
            aten.conv2d.default: self.conv2d,
            aten.conv2d.padding: self.conv2d_named_padding,
        }

    def linear(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """Linear of any rank, as one product of matrices."""
        if w.dim() != 2:
            return torch.matmul(x, w) if b is None else torch.matmul(x, w) + b
        layer = self.scope.layer()
        if x.shape[-1] != w.shape[1]:
            raise CaptureError(
                f"layer {layer!r} takes {w.shape[1]} features, but its input has {x.shape[-1]}"
            )
        flat = x.reshape(-1, x.shape[-1]) if x.dim() != 2 else x
        y: Tensor = qtr.linear(flat, w, b, layer)
        return y.reshape(*x.shape[:-1], w.shape[0]) if x.dim() != 2 else y

    def conv2d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: Ints = 1,
        padding: Ints = 0,
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Tensor:
        """Convolution of a batch or of one image."""
        single = x.dim() == 3
        x = x.unsqueeze(0) if single else x
        sizes = (_pair(stride), _pair(padding), _pair(dilation))
        y: Tensor = qtr.conv(x, w, b, *sizes, groups, self.scope.layer())
        return y.squeeze(0) if single else y

    def conv2d_named_padding(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: Ints = 1,
        padding: str = "valid",
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Tensor:
        """Padding "valid" and "same"; of an odd total torch puts the larger half behind."""
        if padding == "valid":
            return self.conv2d(x, w, b, stride, 0, dilation, groups)
        total = [d * (k - 1) for d, k in zip(_pair(dilation), w.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
            x, total = torch.constant_pad_nd(x, sides), [0, 0]
        return self.conv2d(x, w, b, stride, [t // 2 for t in total], dilation, groups)


@contextmanager
def intercept(scope: Scope) -> Iterator[None]:
    """Trace inside this context; dispatcher tables and global hooks are put back when it ends.

    The tables belong to the whole process, hence the lock.
    """
    with LOCK:
        hooks = [
            nn_module.register_module_forward_pre_hook(scope.enter),
            nn_module.register_module_forward_hook(scope.leave, always_call=True),
        ]
        try:
            with override(Layers(scope).table()):
                yield
        finally:
            for hook in hooks:
                hook.remove()
