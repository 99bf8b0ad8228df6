"""Composite functions that are no layers, as ops that the IR has: padding, resizing, attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from .adapter import original
from .maps import Map, cubic, interpolated, nearest, padded, qtr
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
            aten.dropout.default: self.dropout,
            aten.feature_dropout.default: self.feature_dropout,
            aten.scaled_dot_product_attention.default: self.attention,
            aten.cross_entropy_loss.default: cross_entropy,
            aten.binary_cross_entropy.default: binary_cross_entropy,
            aten.adaptive_avg_pool2d.default: adaptive_average,
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


REDUCTIONS = ("none", "mean", "sum")


def cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """As torch documents it, for classes and for probabilities, with smoothed labels."""
    if target.dtype.is_floating_point and target.shape != x.shape:
        raise CaptureError(
            f"cross_entropy takes classes as int64, or probabilities of shape {list(x.shape)}; the "
            f"target is {str(target.dtype).removeprefix('torch.')} of shape {list(target.shape)}"
        )
    dim = min(1, x.dim() - 1)
    logs = torch.log_softmax(x, dim)
    if target.dtype.is_floating_point:
        return _against_probabilities(logs, target, weight, reduction, label_smoothing)
    how = REDUCTIONS[reduction]
    hit: Tensor = aten.nll_loss_nd(logs, target, weight, reduction, ignore_index)
    if label_smoothing == 0.0:
        return hit
    classes = x.shape[dim]
    single = x.dim() == 1
    if single:
        logs, target = logs.unsqueeze(0), target.unsqueeze(0)
    known = qtr.one_hot(target, classes, ignore_index)
    shape = (-1, *(1,) * (logs.dim() - 2))
    counts = known if weight is None else known * weight.reshape(shape)
    every = logs if weight is None else logs * weight.reshape(shape)
    smooth = torch.where(known.sum(1) != 0, -every.sum(1), 0.0)
    smooth = smooth.squeeze(0) if single and how == "none" else smooth
    if how != "none":
        smooth = smooth.sum() / (counts.sum() if how == "mean" else 1.0)
    total: Tensor = (1 - label_smoothing) * hit + (label_smoothing / classes) * smooth
    return total


def binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    """As torch, whose kernel refuses targets that are no shares; its graph would take them."""
    within = qtr.within(target, 0.0, 1.0)
    made: Tensor = original(aten.binary_cross_entropy.default, x, within, weight, reduction)
    return made


def _against_probabilities(
    logs: Tensor, target: Tensor, weight: Tensor | None, reduction: int, smoothing: float
) -> Tensor:
    dim = min(1, logs.dim() - 1)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logs.shape[dim]
    lost = -logs * target
    if weight is not None:
        lost = lost * weight.reshape(-1, *(1,) * (logs.dim() - 1 - dim))
    if REDUCTIONS[reduction] == "none":
        return lost.sum(dim)
    total = lost.sum()
    return total / (logs.numel() // logs.shape[dim]) if reduction == 1 else total


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
