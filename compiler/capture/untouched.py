"""The model while it is traced: put back as it was, and refused where its forward changes it.

A trace runs a forward several times, on tensors that hold no numbers. Attributes that it counts
would be counted, caches filled with such tensors, and a number that changes from call to call would
be one constant of the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import nn

from ..errors import CaptureError

PLAIN = (bool, int, float, complex, str, bytes, type(None))
CONTAINERS = (list, dict, set)
Tensors = Mapping[str, torch.Tensor | None]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Attributes of all modules are behind the context what they were ahead of it."""
    before = {module: _held(module) for module in model.modules()}
    try:
        yield
    finally:
        for module, held in before.items():
            _put_back(module, held)


class ForwardRun:
    """One run of a model's forward: made ahead of it, and asked behind it what it changed."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.buffers = {module: dict(module._buffers) for module in self.names}
        self.attributes = {module: dict(vars(module)) for module in self.names}

    def check(self) -> None:
        """Raise CaptureError for a buffer that was replaced, a number or word that was changed."""
        for module, layer in self.names.items():
            _check_buffers(layer, self.buffers[module], module._buffers)
            _check_numbers(layer, self.attributes[module], vars(module))


def _check_buffers(layer: str, before: Tensors, after: Tensors) -> None:
    for name, tensor in after.items():
        if before.get(name) is not tensor:
            path = ".".join(filter(None, (layer, name)))
            raise CaptureError(
                f"the forward replaces the buffer {path} by assignment, which a compiled step "
                f"cannot follow; write it in place: self.{name}.copy_(...)"
            )


def _check_numbers(layer: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name, value in before.items():
        now = after.get(name)
        if type(value) in PLAIN and type(now) in PLAIN and now != value and now == now:
            path = ".".join(filter(None, (layer, name)))
            raise CaptureError(
                f"the forward changes {path} from {value!r} to {now!r}, and a compiled step would "
                "keep one of them for ever; make it a buffer that is written in place, or leave "
                "it alone in the forward"
            )


# An attribute, and what a container holds, as the container itself may be changed in place.
Held = dict[str, tuple[Any, Any]]


def _held(module: nn.Module) -> Held:
    return {k: (v, copy(v) if type(v) in CONTAINERS else None) for k, v in vars(module).items()}


def _put_back(module: nn.Module, before: Held) -> None:
    attributes = vars(module)
    for name in attributes.keys() - before.keys():
        del attributes[name]
    for name, (value, contents) in before.items():
        attributes[name] = value
        if isinstance(value, list):
            value[:] = contents
        elif contents is not None:
            value.clear()
            value.update(contents)
