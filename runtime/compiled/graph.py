"""A graph of torch.compile's as it is called: compiled for each shape, a function of autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ...compiler.capture.dynamo import HandedGraph
from .bound import BoundGraph, Waiting
from .held import ModuleState

Bind = Callable[[HandedGraph, Sequence[object], bool], BoundGraph]
ShapeKey = tuple[object, ...]


@dataclass(eq=False, slots=True)
class CompiledGraph:
    """What torch.compile runs in place of a graph; ``bind`` makes the programs for some shapes."""

    handed: HandedGraph
    bind: Bind
    bound: dict[ShapeKey, BoundGraph] = field(default_factory=dict)
    _state: ModuleState | None = None
    _lock: RLock = field(default_factory=RLock)

    def __call__(self, *arguments: object) -> list[object]:
        """The graph's results."""
        arguments = tuple(
            a.item() if i in self.handed.numbers and isinstance(a, torch.Tensor) else a
            for i, a in enumerate(arguments)
        )
        bound, state = self._for(arguments), self._state or ModuleState(self.handed.modules())
        self._state = state
        made: Sequence[torch.Tensor]
        if bound.halves is None:
            made, _ = bound.forward(arguments, bound.states(state))
        else:
            made = HalvedFunction.apply(bound, state, *arguments)  # type: ignore[no-untyped-call]
        returned = bound.captured.returned
        return [made[part] if isinstance(part, int) else part[0] for part in returned]

    def _for(self, arguments: Sequence[object]) -> BoundGraph:
        """The programs for arguments of these shapes."""
        tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
        backward = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        key = (backward, *map(_kind, arguments))
        with self._lock:
            if key not in self.bound:
                self.bound[key] = self.bind(self.handed, arguments, backward)
            return self.bound[key]


def _kind(argument: object) -> object:
    if isinstance(argument, torch.Tensor):
        return tuple(argument.shape), argument.dtype, argument.requires_grad
    return argument


class HalvedFunction(torch.autograd.Function):
    """Runs the forward half, and in backward the other one."""

    @staticmethod
    def forward(
        ctx: Any, bound: BoundGraph, state: ModuleState, *arguments: object
    ) -> tuple[torch.Tensor, ...]:
        """The results that are tensors."""
        ctx.bound, ctx.states = bound, bound.states(state)
        made, ctx.waiting = bound.forward(arguments, ctx.states)
        # So that autograd tells where one is written into ahead of the backward.
        ctx.save_for_backward(*(arguments[i] for i in bound.saved))
        followed = set(bound.captured.tangents.values())
        ctx.mark_non_differentiable(*(t for i, t in enumerate(made) if i not in followed))
        return tuple(made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of the arguments; none at all where one of them is infinite or NaN."""
        waiting: Waiting = ctx.waiting
        assert ctx.saved_tensors is not None
        gradients = ctx.bound.backward(waiting, tangents, ctx.states) or {}
        places = range(len(ctx.needs_input_grad) - 2)
        return (None, None, *(gradients.get(i) for i in places))
