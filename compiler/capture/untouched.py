"""The model while it is traced: put back as it was, and refused where its forward changes it.

A trace runs a forward several times, on tensors that hold no numbers. Attributes that it counts
would be counted, caches filled with such tensors, and a number that changes from call to call would
be one constant of the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from types import CellType
from typing import Any

import torch
from torch import nn

from ..errors import CaptureError

PLAIN = (bool, int, float, complex, str, bytes, type(None))
CONTAINERS = (list, dict, set)
Tensors = Mapping[str, torch.Tensor | None]


@contextmanager
def untouched(model: nn.Module, loss: object = None) -> Iterator[None]:
    """Attributes of all modules, and what a loss holds, are behind the context as ahead of it."""
    modules = [*model.modules(), *(loss.modules() if isinstance(loss, nn.Module) else ())]
    before = {module: _held(vars(module)) for module in modules}
    around = _held({} if isinstance(loss, nn.Module) else held_by(loss))
    try:
        yield
    finally:
        for module, held in before.items():
            _put_back(vars(module), held)
        _fill(around)


class ForwardRun:
    """One run of a model and its loss: made ahead of it, and asked behind it what it changed."""

    def __init__(self, model: nn.Module, loss: object) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.buffers = {module: dict(module._buffers) for module in self.names}
        self.attributes = {module: _plain(vars(module)) for module in self.names}
        self.loss, self.of_loss = loss, _plain(held_by(loss))

    def check(self) -> None:
        """Raise CaptureError for a buffer that was replaced, a number or word that was changed."""
        for module, layer in self.names.items():
            _check_buffers(layer, self.buffers[module], module._buffers)
            _check_numbers("the forward", layer, self.attributes[module], vars(module))
        _check_numbers("the loss", "", self.of_loss, held_by(self.loss))


def held_by(loss: object) -> dict[str, Any]:
    """What a loss holds beside tensors: attributes of an object, variables around a function."""
    if isinstance(loss, nn.Module):
        named = loss.named_modules()
        return {f"{name}.{k}".strip("."): v for name, m in named for k, v in vars(m).items()}
    around = getattr(loss, "__closure__", None)
    if around:
        names = loss.__code__.co_freevars  # type: ignore[attr-defined]
        return {n: c.cell_contents for n, c in zip(names, around, strict=True) if _filled(c)}
    return dict(getattr(loss, "__dict__", {}))


def _filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises where the variable has no value yet
    except ValueError:
        return False
    return True


def _plain(held: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and words by name, those in lists and dictionaries too."""
    plain = {k: v for k, v in held.items() if type(v) in PLAIN}
    for name, value in held.items():
        items = enumerate(value) if isinstance(value, list) else ()
        inner = value.items() if type(value) is dict else items
        plain |= {f"{name}[{k!r}]": v for k, v in inner if type(v) in PLAIN}
    return plain


def _check_buffers(layer: str, before: Tensors, after: Tensors) -> None:
    for name, tensor in after.items():
        if before.get(name) is not tensor:
            path = ".".join(filter(None, (layer, name)))
            raise CaptureError(
                f"the forward replaces the buffer {path} by assignment, which a compiled step "
                f"cannot follow; write it in place: self.{name}.copy_(...)"
            )


def _check_numbers(
    who: str, layer: str, before: Mapping[str, Any], held: Mapping[str, Any]
) -> None:
    after = _plain(held)
    for name, value in before.items():
        now = after.get(name, value)
        if now != value and now == now:
            path = ".".join(filter(None, (layer, name)))
            raise CaptureError(
                f"{who} changes {path} from {value!r} to {now!r}, and a compiled step would "
                "keep one of them for ever; make it a buffer that is written in place, or leave "
                "it alone there"
            )


# An attribute, and what a container holds, as the container itself may be changed in place.
Held = dict[str, tuple[Any, Any]]


def _held(attributes: Mapping[str, Any]) -> Held:
    return {k: (v, copy(v) if type(v) in CONTAINERS else None) for k, v in attributes.items()}


def _put_back(attributes: dict[str, Any], before: Held) -> None:
    for name in attributes.keys() - before.keys():
        del attributes[name]
    attributes.update({name: value for name, (value, _) in before.items()})
    _fill(before)


def _fill(before: Held) -> None:
    for value, contents in before.values():
        if isinstance(value, list):
            value[:] = contents
        elif contents is not None:
            value.clear()
            value.update(contents)
