"""The recipe ``sbm8`` in plain PyTorch, as its authors write it: every tensor stays float32.

Draws of the stochastic rounding are given, so that both programs round alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import conv2d, linear

from quatrain.passes.range_batch_norm import range_factor

Draw = Callable[[str, tuple[int, ...]], Tensor]


def affine(x: Tensor, low: Tensor, high: Tensor, bits: int, noise: Tensor | float = 0.0) -> Tensor:
    """Rounded to the codes of the range, and back."""
    n = 2**bits - 1
    step = torch.clamp((high - low) / n, min=1e-8)
    return torch.clamp((x - low) / step + noise, 0, n).round() * step + low


class StraightThrough(torch.autograd.Function):
    """``affine``, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
        return affine(x, low, high, bits)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor, None, None, None]:
        return dy, None, None, None


class RoundGradient(torch.autograd.Function):
    """The identity; its gradient is rounded with ``noise``, or to bf16 where ``bits`` is 16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, noise: Tensor | None) -> Tensor:
        ctx.bits, ctx.noise = bits, noise
        return x.clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        if ctx.bits == 16:
            return dy.to(torch.bfloat16).float(), None, None
        return affine(dy, dy.min(), dy.max(), ctx.bits, ctx.noise - 0.5), None, None


# torch leaves the calls of its own functions untyped.
straight: Any = StraightThrough
round_gradient: Any = RoundGradient


def through(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    made: Tensor = straight.apply(x, low, high, bits)
    return made


def rounded(x: Tensor, bits: int, noise: Tensor | None = None) -> Tensor:
    made: Tensor = round_gradient.apply(x, bits, noise)
    return made


def activation(x: Tensor, bits: int, per_sample: bool) -> Tensor:
    rows = x.detach().flatten(1)
    if per_sample and rows.shape[1] >= 16:
        return through(x, rows.amin(1).mean(), rows.amax(1).mean(), bits)
    return through(x, rows.min(), rows.max(), bits)


def weight(w: Tensor, bits: int) -> Tensor:
    rows, ones = w.detach().flatten(1), (-1,) + (1,) * (w.dim() - 1)
    return through(w, rows.amin(1).view(ones), rows.amax(1).view(ones), bits)


class RangeNorm(nn.Module):
    """Range BN with the chunks of the authors' code, eps as batch norm has it."""

    def __init__(self, norm: nn.BatchNorm2d, constant: str, chunks: int) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.constant, self.chunks = constant, chunks

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(0, 1).reshape(x.shape[1], self.chunks, -1)
        reach = y.max(-1)[0].mean(-1) - y.min(-1)[0].mean(-1)
        scale = reach * range_factor(self.constant, y.shape[-1])
        shape = (1, -1) + (1,) * (x.dim() - 2)
        away = x - y.flatten(1).mean(1).view(shape)
        normal = away / (scale.square() + self.eps).sqrt().view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class Quantized(nn.Module):
    """A convolution, a linear layer or a norm between fake quantizers; ``draw`` gives its noise."""

    def __init__(
        self, inner: nn.Module, name: str, draw: Draw, per_sample: bool, bifurcation: bool
    ) -> None:
        super().__init__()
        self.inner, self.name, self.draw = inner, name, draw
        self.per_sample, self.bifurcation = per_sample, bifurcation

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        xq = activation(x, 8, self.per_sample or isinstance(inner, RangeNorm))
        if isinstance(inner, RangeNorm):
            y = inner(xq)
            return rounded(y, 8, self.draw(self.name, tuple(y.shape)))
        w, b = inner.weight, inner.bias
        assert isinstance(w, Tensor)
        wq = weight(w, 8)

        def product(x: Tensor, w: Tensor) -> Tensor:
            if isinstance(inner, nn.Conv2d):
                return conv2d(x, w, None, inner.stride, inner.padding)
            return linear(x, w)

        if not self.bifurcation:
            y = product(xq, wq)
            y = rounded(y, 8, self.draw(self.name, tuple(y.shape)))
        else:
            for_dw = rounded(product(xq.detach(), wq), 16)
            y = product(xq, wq.detach())
            noise = self.draw(self.name, tuple(y.shape)) if xq.requires_grad else None
            y = rounded(y, 8, noise) if noise is not None else y
            y = y + for_dw - for_dw.detach()
        if isinstance(b, Tensor):
            y = y + b.view((1, -1) + (1,) * (y.dim() - 2))
        return y
