"""Interception: while a graph is traced, every layer call ends in an op of ``layers``.

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

from ..errors import CaptureError
from . import layers, losses
from .adapter import override
from .attached import without_saved_tensor_hooks
from .functions import Functions
from .packed import Packed
from .products import TensorProducts
from .recurrent_layers import Recurrent
from .scope import Scope
from .volumes import Volumes

aten = torch.ops.aten
qtr = layers.qtr
LOCK = threading.RLock()
IntOrInts = int | list[int]


def _pair(value: IntOrInts) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


class Layers:
    """What the composite ops become: each call ends in one op that carries the layer's name."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def table(self) -> dict[Any, Callable[..., Any]]:
        """The replaced ops."""
        return {
            aten.linear.default: self.linear,
            aten.bilinear.default: self.bilinear,
            aten.conv1d.default: self.conv1d,
            aten.conv1d.padding: self.conv1d,
            aten.conv2d.default: self.conv2d,
            aten.conv2d.padding: self.conv2d,
            aten.conv_transpose1d.default: self.conv_transpose1d,
            aten.conv_transpose2d.input: self.conv_transpose2d,
            **Functions(self.scope).table(),
            **Volumes(self.conv2d, self.conv_transpose2d).table(),
            **TensorProducts(self.scope).table(),
            **Recurrent(self.scope).table(),
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

    def bilinear(self, a: Tensor, c: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """A linear layer of the first input, whose outputs are weighted by the second one."""
        outs, first, second = w.shape
        rows = w.transpose(1, 2).reshape(outs * second, first)
        made = self.linear(a, rows).reshape(*a.shape[:-1], outs, second)
        y = (made * c.unsqueeze(-2)).sum(-1)
        return y if b is None else y + b

    def conv2d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: IntOrInts = 1,
        padding: IntOrInts | str = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
    ) -> Tensor:
        """Convolution of a batch or of one image; padding may be "valid" or "same"."""
        single = x.dim() == 3
        x = x.unsqueeze(0) if single else x
        if isinstance(padding, str):
            x, padding = _named_padding(x, w, padding, _pair(dilation))
        sizes = (_pair(stride), _pair(padding), _pair(dilation))
        y: Tensor = qtr.conv(x, w, b, *sizes, groups, self.scope.layer())
        return y.squeeze(0) if single else y

    def conv1d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: IntOrInts = 1,
        padding: IntOrInts | str = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
    ) -> Tensor:
        """Convolution of lines: images of one row."""
        edge = padding if isinstance(padding, str) else [0, _last(padding)]
        steps = ([1, _last(stride)], edge, [1, _last(dilation)])
        return self.conv2d(x.unsqueeze(-2), w.unsqueeze(-2), b, *steps, groups).squeeze(-2)

    def conv_transpose2d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        dilation: IntOrInts = 1,
    ) -> Tensor:
        """The dX of a convolution as a layer."""
        single = x.dim() == 3
        x = x.unsqueeze(0) if single else x
        steps = [_pair(n) for n in (stride, padding, dilation)]
        pairs = zip(x.shape[2:], w.shape[2:], *steps, _pair(output_padding), strict=True)
        size = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in pairs]
        y: Tensor = qtr.conv_t(x, w, b, size, *steps, groups, self.scope.layer())
        return y.squeeze(0) if single else y

    def conv_transpose1d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        dilation: IntOrInts = 1,
    ) -> Tensor:
        """On lines."""
        first = ([1, _last(stride)], [0, _last(padding)], [0, _last(output_padding)])
        lines, taps = x.unsqueeze(-2), w.unsqueeze(-2)
        y = self.conv_transpose2d(lines, taps, b, *first, groups, [1, _last(dilation)])
        return y.squeeze(-2)


def _last(value: IntOrInts) -> int:
    return value if isinstance(value, int) else value[-1]


def _named_padding(
    x: Tensor, w: Tensor, padding: str, dilation: list[int]
) -> tuple[Tensor, list[int]]:
    """Input and padding for "valid" and "same"; of an odd total the larger half goes behind."""
    if padding == "valid":
        return x, [0, 0]
    total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
    if not any(t % 2 for t in total):
        return x, [t // 2 for t in total]
    sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    return torch.constant_pad_nd(x, sides), [0, 0]


@contextmanager
def intercept(scope: Scope) -> Iterator[None]:
    """Trace inside this context; dispatcher tables and global hooks are put back when it ends.

    The tables belong to the whole process, hence the lock.
    """
    replaced = override(Layers(scope).table())
    scope.instead = Packed(scope, losses.written()).instead
    with LOCK, scope.following(), replaced, without_saved_tensor_hooks(scope):
        yield
