"""Tensors that lie on a stand-in's device, as if torch were built for CUDA."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from quatrain.runtime import edge
from quatrain.targets.cuda.driver import Device
from quatrain.targets.cuda.memory import DeviceMemory


@cache
def on(index: int) -> type[Tensor]:
    """Tensors in the memory of a device, which is the host's."""
    place = property(lambda tensor: torch.device("cuda", index))
    return type(f"OnDevice{index}", (Tensor,), {"device": place})


def room(shape: tuple[int, ...], dtype: Any, index: int = 0) -> Tensor:
    """Memory of a device as a tensor."""
    size = torch.empty(shape, dtype=dtype, device="meta").nbytes
    memory = DeviceMemory(Device(index), size)
    raw = (ctypes.c_ubyte * size).from_address(memory.address)
    made: Any = torch.frombuffer(raw, dtype=dtype).reshape(shape).as_subclass(on(index))
    made.held = memory
    return cast(Tensor, made)


def there(tensor: Tensor, index: int = 0) -> Tensor:
    """A copy on a device."""
    made = room(tuple(tensor.shape), tensor.dtype, index)
    made.as_subclass(Tensor).copy_(tensor)
    return made


@contextmanager
def as_if_torch_had_cuda() -> Iterator[None]:
    """Its stream is the one of each device that all others come behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "current_stream", lambda device: 0)
        patch.setattr(
            edge,
            "empty",
            lambda v, at: room(v.type.shape, edge.FLOATS[v.type.format.name], at.index),
        )
        yield
