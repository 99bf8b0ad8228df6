"""Bags of rows and reductions by index, made of reads, sums by index and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
SUM, MEAN = 0, 1  # modes of a bag; 2 is the largest


def table() -> dict[Any, Callable[..., Any]]:
    """The replaced ops."""
    return {
        aten.embedding_bag.default: embedding_bag,
        aten.embedding_bag.padding_idx: embedding_bag,
        aten.scatter_reduce.two: scatter_reduce,
        aten.index_reduce.default: index_reduce,
    }


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = SUM,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of a table joined by bag; the bag of each, their counts, and nothing, behind."""
    starts = offsets[:-1] if include_last_offset else offsets
    padding = -1 if padding_idx is None else padding_idx % weight.shape[0]
    rows = aten.embedding(weight, indices, padding, scale_grad_by_freq)
    bag = (torch.arange(len(indices))[:, None] >= starts).sum(1) - 1
    counted = (indices != padding).to(weight.dtype)
    empty = weight.new_zeros((len(starts), weight.shape[1]))
    counts = empty[:, 0].index_add(0, bag, counted)
    if mode in (SUM, MEAN):
        shares = counted if per_sample_weights is None else counted * per_sample_weights
        made = empty.index_add(0, bag, rows * shares[:, None])
        made = made / counts.clamp(min=1)[:, None] if mode == MEAN else made
    else:
        shown = torch.where(counted[:, None] != 0, rows, float("-inf"))
        index = bag[:, None].expand_as(rows)
        made = scatter_reduce(empty, 0, index, shown, "amax", include_self=False)
        made = torch.where(counts[:, None] != 0, made, 0.0)
    return made, bag, counts.long(), counts.long()


def scatter_reduce(
    x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``x`` joined with the elements of ``src`` that an index sends to each place."""
    src = _first(src, index.shape, -1)
    part = _first(x, index.shape, dim % x.dim())
    made = _reduced(part, dim % x.dim(), index, src, reduce, include_self)
    for d in reversed(range(x.dim())):
        count, size = made.shape[d], x.shape[d]
        if count < size:
            ahead = (*made.shape[:d], size, *x.shape[d + 1 :])
            rest = _first(x, ahead, -1).narrow(d, count, size - count)
            made = torch.cat([made, rest], d)
    return made


def index_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """The same for whole rows."""
    shape = (-1, *(1,) * (source.dim() - 1 - dim % source.dim()))
    wide = index.reshape(shape).expand(source.shape)
    return scatter_reduce(x, dim, wide, source, reduce, include_self=include_self)


def _first(x: Tensor, shape: tuple[int, ...], but: int) -> Tensor:
    """The first elements of all dimensions but one."""
    for d, size in enumerate(shape):
        x = x if d == but else x.narrow(d, 0, size)
    return x


def _reduced(
    x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool
) -> Tensor:
    ones = torch.ones_like(src)
    count = torch.zeros_like(x).scatter_add(dim, index, ones)
    if reduce in ("sum", "mean"):
        total = (x if include_self else torch.zeros_like(x)).scatter_add(dim, index, src)
        many = count + 1 if include_self else count.clamp(min=1)
        made = total / many if reduce == "mean" else total
    else:
        made = _joined(x, dim, index, src, reduce, include_self)
    return made if include_self else torch.where(count != 0, made, x)


def _joined(
    x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool
) -> Tensor:
    """Every element beside every place it may go to, so that equal ones share a gradient."""
    shape = (-1, *(1,) * (src.dim() - dim))
    own = torch.arange(x.shape[dim]).reshape(shape)
    hit = index.unsqueeze(dim) == own
    nothing = {"prod": 1.0, "amax": float("-inf"), "amin": float("inf")}[reduce]
    every = torch.where(hit, src.unsqueeze(dim), nothing)
    if include_self:
        every = torch.cat([x.unsqueeze(dim + 1), every], dim + 1)
    if reduce == "prod":
        return every.prod(dim + 1)
    return every.amax(dim + 1) if reduce == "amax" else every.amin(dim + 1)
