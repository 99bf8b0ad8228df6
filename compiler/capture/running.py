"""Running products and logarithms of running sums, and products of whole dimensions.

Each sweep joins an element with the one ``2^k`` ahead of it (Hillis and Steele, 1986), so that a
dimension of n elements takes log n sweeps; gradients are those of the products, zeros included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Join = Callable[[Tensor, Tensor], Tensor]


def table() -> dict[Any, Callable[..., Tensor]]:
    """The replaced ops."""
    return {
        aten.cumprod.default: running_product,
        aten.logcumsumexp.default: running_logarithm,
        aten.prod.default: whole_product,
        aten.prod.dim_int: product,
    }


def _running(x: Tensor, dim: int, join: Join) -> Tensor:
    size, by = x.shape[dim] if x.dim() else 1, 1
    while by < size:
        met = join(x.narrow(dim, by, size - by), x.narrow(dim, 0, size - by))
        x = torch.cat([x.narrow(dim, 0, by), met], dim)
        by *= 2
    return x


def running_product(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Each element times all those ahead of it."""
    return _running(_summed(x, dtype), dim, torch.mul)


def running_logarithm(x: Tensor, dim: int) -> Tensor:
    """The logarithm of the sum of exponentials so far."""
    return _running(x, dim, torch.logaddexp)


def product(
    x: Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """One dimension, folded in halves."""
    x = _summed(x, dtype)
    if not x.dim():
        return x
    while (size := x.shape[dim]) > 1:
        half = size // 2
        folded = x.narrow(dim, 0, half) * x.narrow(dim, half, half)
        rest = [x.narrow(dim, size - 1, 1)] if size % 2 else []
        x = torch.cat([folded, *rest], dim) if rest else folded
    return x if keepdim else x.squeeze(dim)


def whole_product(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """All elements."""
    return product(x.flatten(), 0, dtype=dtype)


def _summed(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """In the type that torch multiplies many numbers in: integers in 64 bits."""
    return x.to(dtype or (x.dtype if x.dtype.is_floating_point else torch.int64))
