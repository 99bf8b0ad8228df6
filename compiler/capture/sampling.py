"""Sampling a grid: images and volumes read between their elements, at places that are computed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from .maps import far, near

aten = torch.ops.aten
LINEAR, NEAREST = 0, 1  # modes; 2 is cubic
ZEROS, BORDER = 0, 1  # paddings; 2 is reflection
Tap = tuple[Tensor, Tensor]  # the number of an element along one dimension, and its share


def table() -> dict[Any, Callable[..., Tensor]]:
    """The replaced ops."""
    return {aten.grid_sampler.default: sample, aten.affine_grid_generator.default: affine_grid}


def sample(x: Tensor, grid: Tensor, mode: int, padding: int, align_corners: bool) -> Tensor:
    """What lies at the places of ``grid``, whose last dimension is x, y (, z) from -1 to 1."""
    sizes = x.shape[2:]
    rows = x.flatten(2).transpose(1, 2).flatten(0, 1)
    along = []
    for d, size in enumerate(sizes):
        at = grid[..., len(sizes) - 1 - d]
        at = (at + 1) / 2 * (size - 1) if align_corners else ((at + 1) * size - 1) / 2
        along.append(_taps(at, size, mode, padding, align_corners))
    first = torch.arange(x.shape[0]).reshape(-1, *(1,) * len(sizes))
    total = x.new_zeros(())
    for taps in product(*along):
        index, share = first, torch.ones(())
        for (place, weight), size in zip(taps, sizes, strict=True):
            index, share = index * size + place.long(), share * weight
        total = total + rows[index] * share.unsqueeze(-1)
    return total.movedim(-1, 1)


def _taps(at: Tensor, size: int, mode: int, padding: int, align_corners: bool) -> list[Tap]:
    """The elements around a place; outside of the image a share is 0."""
    if mode in (LINEAR, NEAREST):
        at = _inside(at, size, padding, align_corners)
    low = (at.round() if mode == NEAREST else at.floor()).detach()
    share = at - low
    if mode == NEAREST:
        taps = [(low, torch.ones_like(at))]
    elif mode == LINEAR:
        taps = [(low, 1 - share), (low + 1, share)]
    else:
        shares = far(share + 1), near(share), near(1 - share), far(2 - share)
        places = [_inside(low + i, size, padding, align_corners) for i in range(-1, 3)]
        taps = list(zip(places, shares, strict=True))
    return [(p.clamp(0, size - 1), w * ((p >= 0) & (p <= size - 1))) for p, w in taps]


def _inside(at: Tensor, size: int, padding: int, align_corners: bool) -> Tensor:
    """Places outside of the image moved to its border, or reflected at it; no gradient there."""
    if padding == ZEROS:
        return at
    if padding != BORDER:
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return torch.zeros_like(at)
        away = (at - low).abs()
        turns = (away / span).floor().detach()
        rest = away - turns * span
        odd = turns - 2 * (turns / 2).floor()
        at = torch.where(odd == 0, rest, span - rest) + low
    within = (at > 0) & (at < size - 1)
    return torch.where(within, at, at.detach().clamp(0, size - 1))


def affine_grid(theta: Tensor, size: list[int], align_corners: bool) -> Tensor:
    """The places of a regular grid under one affine map for each sample."""
    lines = []
    for n in size[2:]:
        ends = 1.0 if align_corners and n > 1 else (n - 1) / n
        lines.append(torch.linspace(-ends, ends, n) if n > 1 else torch.zeros(1))
    every = torch.meshgrid(*lines, indexing="ij")
    places = torch.stack([*reversed(every), torch.ones(size[2:])], -1)
    flat = places.flatten(0, -2) @ theta.transpose(1, 2)
    made: Tensor = flat.unflatten(1, size[2:])
    return made
