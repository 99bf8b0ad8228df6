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


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Attributes of all modules are behind the context what they were ahead of it.

    CaptureError where the forward has changed a number or a word.
    """
    before = {module: _held(module) for module in model.modules()}
    names = {module: name for name, module in model.named_modules()}
    try:
        yield
        for module, held in before.items():
            _check_numbers(names[module], held, vars(module))
    finally:
        for module, held in before.items():
            _put_back(module, held)


def buffers_of(model: nn.Module) -> dict[tuple[nn.Module, str], torch.Tensor | None]:
    """The tensors that stand for buffers now."""
    return {(m, name): b for m in model.modules() for name, b in m._buffers.items()}


def check_buffers(
    model: nn.Module, before: Mapping[tuple[nn.Module, str], torch.Tensor | None]
) -> None:
    """Raise CaptureError where a buffer has become another tensor: what it holds would be lost."""
    names = {module: name for name, module in model.named_modules()}
    for (module, name), tensor in buffers_of(model).items():
        if before.get((module, name)) is not tensor:
            path = ".".join(filter(None, (names[module], name)))
            raise CaptureError(
                f"the forward replaces the buffer {path} by assignment, which a compiled step "
                f"cannot follow; write it in place: self.{name}.copy_(...)"
            )


# An attribute, and what a container holds, as the container itself may be changed in place.
Held = dict[str, tuple[Any, Any]]


def _held(module: nn.Module) -> Held:
    return {k: (v, copy(v) if type(v) in CONTAINERS else None) for k, v in vars(module).items()}


def _check_numbers(layer: str, before: Held, after: Mapping[str, Any]) -> None:
    for name, (value, _) in before.items():
        now = after.get(name)
        if type(value) in PLAIN and type(now) in PLAIN and now != value and now == now:
            path = ".".join(filter(None, (layer, name)))
            raise CaptureError(
                f"the forward changes {path} from {value!r} to {now!r}, and a compiled step would "
                "keep one of them for ever; make it a buffer that is written in place, or leave "
                "it alone in the forward"
            )


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
