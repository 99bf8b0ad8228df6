"""Ranks and counts: middle elements, places among boundaries, histograms of fixed bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def table() -> dict[Any, Callable[..., Any]]:
    """The replaced ops."""
    return {
        aten.kthvalue.default: ranked,
        aten.median.dim: middle,
        aten.median.default: lambda x: ranked(x.flatten(), (x.numel() + 1) // 2)[0],
        aten.bucketize.Tensor: among,
        aten.searchsorted.Tensor: searched,
        aten.histc.default: counted,
        aten.count_nonzero.dim_IntList: lambda x, dim: (x != 0).sum(dim),
        aten.count_nonzero.default: lambda x, dim=None: (x != 0).sum(
            *(() if dim is None else (dim,))
        ),
        aten.nansum.default: summed,
        aten.aminmax.default: extremes,
        aten.take.default: lambda x, index: x.flatten()[index],
        aten.rot90.default: turned,
    }


def ranked(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The k-th smallest element along a dimension, and its place."""
    values, places = x.sort(dim)
    value, place = values.narrow(dim, k - 1, 1), places.narrow(dim, k - 1, 1)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


def middle(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of two elements in the middle."""
    return ranked(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def among(x: Tensor, bounds: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """How many boundaries lie below each element; of equal ones if ``right``."""
    below = bounds <= x.unsqueeze(-1) if right else bounds < x.unsqueeze(-1)
    return below.sum(-1)


def searched(
    bounds: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """The same, with boundaries of its own for each row."""
    bounds = bounds if sorter is None else bounds.gather(-1, sorter)
    rows = bounds if bounds.dim() == 1 else bounds.unsqueeze(-2)
    return among(x, rows, right=right or side == "right")


def counted(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """A histogram between two ends, which are the extremes of the elements where they meet."""
    x = x.detach().flatten()
    low, high = (x.amin(), x.amax()) if min == max else (torch.tensor(min), torch.tensor(max))
    place = ((x - low) / (high - low) * bins).floor().clamp(max=bins - 1)
    place = torch.where((x >= low) & (x <= high), place, -1.0)
    return (place == torch.arange(bins)[:, None]).to(x.dtype).sum(1)


def summed(
    x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """Of all but NaN."""
    known = torch.where(x.isnan(), 0.0, x)
    return known.sum() if dim is None else known.sum(dim, keepdim)


def extremes(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The least and the largest element."""
    dims = () if dim is None else (dim,)
    return x.amin(dims, keepdim), x.amax(dims, keepdim)


def turned(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Quarter turns of a plane."""
    first, second = dims
    if k % 4 == 2:
        return x.flip(first, second)
    if k % 2 == 0:
        return x.clone()
    made = x.flip(second) if k % 4 == 1 else x.flip(first)
    return made.transpose(first, second)
