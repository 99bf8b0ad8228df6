"""Losses that torch has as one function each, written out; cross entropy among them."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from .adapter import original
from .ctc import ctc_loss
from .maps import qtr

aten = torch.ops.aten
REDUCTIONS = ("none", "mean", "sum")
LARGEST = torch.finfo(torch.float32).max


def table() -> dict[Any, Callable[..., Tensor]]:
    """The replaced ops."""
    return {
        aten.cross_entropy_loss.default: cross_entropy,
        aten.binary_cross_entropy.default: binary_cross_entropy,
        aten.soft_margin_loss.default: soft_margin,
        aten.multilabel_margin_loss.default: multilabel_margin,
        aten.ctc_loss.IntList: ctc_loss,
        aten.ctc_loss.Tensor: ctc_loss,
    }


def written() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Functions of Python that read numbers to check them, and what stands in their place."""
    return {torch.nn.functional.gaussian_nll_loss: gaussian_nll}


def reduced(lost: Tensor, reduction: int) -> Tensor:
    """The mean, the sum or all of them."""
    how = REDUCTIONS[reduction]
    return lost if how == "none" else lost.mean() if how == "mean" else lost.sum()


def soft_margin(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """log(1 + exp(-target x))"""
    return reduced(torch.nn.functional.softplus(-target * x), reduction)


def multilabel_margin(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """How far each class of a target, up to the first -1, fails to lead each that is none."""
    scores, labels = torch.atleast_2d(x), torch.atleast_2d(target)
    classes = scores.shape[1]
    listed = ((labels < 0).float().cumsum(1) == 0).to(x.dtype)
    index = labels.clamp(min=0)
    named = torch.zeros_like(scores).scatter_add(1, index, listed)
    lead = 1 - scores.gather(1, index)[:, :, None] + scores[:, None]
    counts = listed[:, :, None] * (named == 0)[:, None]
    lost = (lead.clamp(min=0) * counts).sum((1, 2)) / classes
    return reduced(lost if x.dim() > 1 else lost.squeeze(0), reduction)


def gaussian_nll(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """As torch documents it; a negative variance, which torch refuses, makes the loss NaN."""
    if not isinstance(var, Tensor):
        var = input.new_full((), var)
    elif var.shape != input.shape and var.shape == input.shape[:-1]:
        var = var.unsqueeze(-1)
    fixed = var.detach()
    # torch takes the bound for no part of the gradient.
    spread: Tensor = var + (qtr.within(fixed, 0.0, LARGEST).clamp(min=eps) - fixed)
    lost = 0.5 * (spread.log() + (input - target).square() / spread)
    return reduced(lost + 0.5 * log(2 * pi) if full else lost, REDUCTIONS.index(reduction))


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
