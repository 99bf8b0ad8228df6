"""What PyTorch keeps from forward to backward in the same step in f32, counted by its own hooks.

Each storage counts once; parameters, buffers and the batch are there anyway and do not count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..saved import Kept
from . import adapter
from .graph import Loss, Traced, mode, recording, scope_of
from .scope import Scope
from .world import clocks_told

log = logging.getLogger(__name__)


class Counter:
    """Collects what autograd saves; ``owned`` are tensors that are there anyway."""

    def __init__(self, owned: Iterable[Tensor], scope: Scope | None = None) -> None:
        self._own = {adapter.storage_of(t) for t in owned}
        self._scope = scope
        self._found: dict[int, Kept] = {}
        self._alive: list[Tensor] = []

    @property
    def kept(self) -> tuple[Kept, ...]:
        """In the order in which they were saved."""
        return tuple(self._found.values())

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the forward of this context saves."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda t: t):
            yield

    def _pack(self, t: Tensor) -> Tensor:
        storage, size = adapter.storage_of(t), t.untyped_storage().nbytes()
        if storage not in self._own and size:
            self._alive.append(t)  # so that no later storage takes its place
            place = ("", "") if self._scope is None else self._scope.now()
            self._found.setdefault(storage, Kept(*place, tuple(t.shape), size))
        return t


def kept_by_torch(forward: Callable[[], object], owned: Iterable[Tensor]) -> tuple[Kept, ...]:
    """What autograd saves in one call of ``forward``."""
    counter = Counter(owned)
    with counter.counting():
        forward()
    return counter.kept


def kept_in_training(
    model: nn.Module, loss: Loss, batch: tuple[Tensor, ...]
) -> tuple[Kept, ...] | None:
    """What autograd saves in one forward of ``model`` and ``loss``, run on tensors of no numbers.

    None, with a line in the log, where torch cannot run it on such tensors.
    """
    scope = scope_of(model)
    root = Traced(model, loss, scope)
    convert, fake = adapter.fake_tensors()
    try:
        with mode(model, loss, training=True), recording(), adapter.quiet(), scope.following():
            held = {name: convert(t) for name, t in root.every()}
            given = tuple(convert(t.detach()) for t in batch)
            counter = Counter((*held.values(), *given), scope)
            with fake, adapter.written_functions(), counter.counting(), clocks_told():
                functional_call(root, held, given)
    except Exception as error:
        why = str(error).partition("\n")[0]
        log.warning("the bill does without PyTorch's column: %s: %s", type(error).__name__, why)
        return None
    return counter.kept
