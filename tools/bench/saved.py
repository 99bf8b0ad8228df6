"""Bytes that PyTorch keeps from forward to backward: each storage once, seen by its own hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that autograd keeps: shape and dtype of its first owner, bytes of it all."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes: int


def kept_by_torch(forward: Callable[[], object], owned: Iterable[Tensor]) -> list[Storage]:
    """What autograd saves in one call of ``forward``.

    ``owned`` are tensors that are there anyway: parameters, buffers, the batch.
    """
    own = {t.untyped_storage().data_ptr() for t in owned}
    found: dict[int, Storage] = {}
    alive: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own and storage.nbytes():
            alive.append(t)  # so that no later storage gets the same address
            found.setdefault(storage.data_ptr(), Storage(tuple(t.shape), t.dtype, storage.nbytes()))
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        forward()
    return list(found.values())
