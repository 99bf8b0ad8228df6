"""Distances of all pairs, written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def table() -> dict[Any, Callable[..., Tensor]]:
    """The replaced ops."""
    return {aten.cdist.default: between, aten.pdist.default: among}


def between(a: Tensor, b: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """From each row of ``a`` to each of ``b``; one of 0 has no gradient, as in torch."""
    away: Tensor = torch.linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)
    return away


def among(x: Tensor, p: float = 2.0) -> Tensor:
    """Of the rows of one matrix, each pair once."""
    first, second = torch.triu_indices(len(x), len(x), 1).unbind()
    away: Tensor = torch.linalg.vector_norm(x[first] - x[second], p, -1)
    return away
