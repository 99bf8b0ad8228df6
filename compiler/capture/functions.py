"""Composite functions that are no layers, as ops that the IR has: padding, resizing, attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from . import curves, distances, gathered, losses, ranked, running, sampling
from .maps import Map, antialiased, cubic, interpolated, nearest, padded, qtr
from .scope import Scope

aten = torch.ops.aten
Scales = Sequence[float] | None


def adaptive_average(x: Tensor, size: list[int]) -> Tensor:
    """As torch, which also sets strides of a single pixel's mean that no element is read by."""
    if list(size) == [1, 1]:
        return x.mean((-2, -1), keepdim=True)
    made: Tensor = aten._adaptive_avg_pool2d.default(x, size)
    return made


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """v / |v| g: lengths over all dimensions but ``dim``, or over all where that is -1."""
    dims = [d for d in range(v.dim()) if d != dim]
    return v * (g / v.square().sum(dims, keepdim=True).sqrt())


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """One channel of each group after the other."""
    parts: Tensor = x.unflatten(1, (groups, -1))
    return parts.transpose(1, 2).flatten(1, 2)


def unpooled(x: Tensor, indices: Tensor, size: list[int], *how: object) -> Tensor:
    """Zeros, but for the places that pooling took its maxima from."""
    outer = x.shape[: x.dim() - len(size)]
    plane = x.new_zeros((*outer, prod(size)))
    flat = plane.scatter(-1, indices.flatten(len(outer)), x.flatten(len(outer)))
    made: Tensor = flat.unflatten(-1, size)
    return made


def rrelu(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A leaky ReLU, whose slopes are drawn in training."""
    mean = (lower + upper) / 2
    slope = torch.rand_like(x) * (upper - lower) + lower if training else mean
    return torch.where(x >= 0, x, x * slope)


class Functions:
    """What calls of composite functions become while a graph is traced."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def table(self) -> dict[Any, Callable[..., Tensor]]:
        """The replaced ops."""
        return {
            aten._weight_norm.default: weight_norm,
            aten.pad.default: self.pad,
            aten.upsample_nearest1d.vec: self.nearest,
            aten.upsample_nearest2d.vec: self.nearest,
            aten._upsample_nearest_exact1d.vec: self.nearest_exact,
            aten._upsample_nearest_exact2d.vec: self.nearest_exact,
            aten.upsample_linear1d.vec: self.linear,
            aten.upsample_bilinear2d.vec: self.linear,
            aten.upsample_bicubic2d.vec: self.cubic,
            aten.upsample_nearest3d.vec: self.nearest,
            aten._upsample_nearest_exact3d.vec: self.nearest_exact,
            aten.upsample_trilinear3d.vec: self.linear,
            aten._upsample_bilinear2d_aa.vec: self.linear_antialiased,
            aten._upsample_bicubic2d_aa.vec: self.cubic_antialiased,
            aten.channel_shuffle.default: channel_shuffle,
            aten.max_unpool2d.default: unpooled,
            aten.max_unpool3d.default: unpooled,
            aten.rrelu.default: rrelu,
            aten.dropout.default: self.dropout,
            aten.feature_dropout.default: self.feature_dropout,
            aten.scaled_dot_product_attention.default: self.attention,
            aten.adaptive_avg_pool2d.default: adaptive_average,
            **losses.table(),
            **running.table(),
            **sampling.table(),
            **gathered.table(),
            **distances.table(),
            **curves.table(),
            **ranked.table(),
        }

    def pad(
        self, x: Tensor, pad: list[int], mode: str = "constant", value: float | None = None
    ) -> Tensor:
        """All modes of ``torch.nn.functional.pad``."""
        if mode == "constant":
            return torch.constant_pad_nd(x, pad, value or 0.0)
        for i in range(len(pad) // 2):
            dim, before, behind = -1 - i, pad[2 * i], pad[2 * i + 1]
            size = x.shape[dim]
            most = size - 1 if mode == "reflect" else size
            if mode != "replicate" and max(before, behind) > most:
                raise CaptureError(
                    f"{mode} padding of {max(before, behind)} in layer {self.scope.layer()!r} is "
                    f"wider than its input of {size}; at most {most} fit"
                )
            x = padded(size, before, behind, mode).along(x, dim)
        return x

    def nearest(self, x: Tensor, size: list[int] | None, scales: Scales) -> Tensor:
        """Interpolation to the nearest element."""
        return _each(x, size, scales, nearest)

    def nearest_exact(self, x: Tensor, size: list[int] | None, scales: Scales) -> Tensor:
        """Interpolation to the element whose middle is nearest."""
        return _each(x, size, scales, partial(nearest, middle=0.5))

    def linear(
        self, x: Tensor, size: list[int] | None, align_corners: bool, scales: Scales
    ) -> Tensor:
        """Linear and bilinear interpolation."""
        return _each(x, size, scales, partial(interpolated, align_corners=align_corners))

    def cubic(
        self, x: Tensor, size: list[int] | None, align_corners: bool, scales: Scales
    ) -> Tensor:
        """Bicubic interpolation."""
        return _each(x, size, scales, partial(cubic, align_corners=align_corners))

    def linear_antialiased(
        self, x: Tensor, size: list[int] | None, align_corners: bool, scales: Scales
    ) -> Tensor:
        """Bilinear interpolation with a filter as wide as a pixel that is made."""
        make = partial(antialiased, align_corners=align_corners, cubic=False)
        return _each(x, size, scales, make)

    def cubic_antialiased(
        self, x: Tensor, size: list[int] | None, align_corners: bool, scales: Scales
    ) -> Tensor:
        """Bicubic interpolation in the same way."""
        make = partial(antialiased, align_corners=align_corners, cubic=True)
        return _each(x, size, scales, make)

    def dropout(self, x: Tensor, p: float, train: bool) -> Tensor:
        """With a mask that the backward makes again."""
        if not train or p == 0.0:
            return x
        made: Tensor = qtr.dropout(x, p, self.scope.layer("dropout"))
        return made

    def feature_dropout(self, x: Tensor, p: float, train: bool) -> Tensor:
        """One choice for each channel."""
        ones = torch.ones((*x.shape[:2], *(1,) * (x.dim() - 2)), dtype=x.dtype)
        return x * self.dropout(ones, p, train)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """softmax(q k^T scale + mask) v, as torch documents it."""
        if enable_gqa:
            groups = q.shape[-3] // k.shape[-3]
            k, v = (t.repeat_interleave(groups, -3) for t in (k, v))
        factor = q.shape[-1] ** -0.5 if scale is None else scale
        scores = (q @ k.transpose(-2, -1)) * factor
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None:
            floating = attn_mask.dtype.is_floating_point
            hidden = scores.new_full((), float("-inf"))
            scores = scores + attn_mask if floating else torch.where(attn_mask, scores, hidden)
        weights = torch.softmax(scores, -1)
        return self.dropout(weights, dropout_p, dropout_p > 0.0) @ v


def _each(
    x: Tensor,
    size: list[int] | None,
    scales: Scales,
    make: Callable[[int, int, float | None], Map],
) -> Tensor:
    """One map for each dimension behind the channels."""
    for i in range(x.dim() - 2):
        scale = None if scales is None else float(scales[i])
        have = x.shape[2 + i]
        made = int(have * scale) if scale is not None else (size or ())[i]
        x = make(have, made, scale).along(x, 2 + i)
    return x
