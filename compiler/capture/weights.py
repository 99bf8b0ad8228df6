"""What a trace knows as weights: parameters, and what is computed from them without an input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor


class Weights:
    """Tensors by identity; they are held, so that no other takes the id of one."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing, as ahead of a run."""
        self._weights: dict[int, Tensor] = {}
        self._constants: dict[int, Tensor] = {}

    def start(self, parameters: Iterable[Tensor], buffers: Iterable[Tensor]) -> None:
        """Know what a model holds."""
        self._weights.update((id(t), t) for t in parameters)
        self._constants.update((id(t), t) for t in buffers)

    def holds(self, t: Tensor) -> bool:
        """Whether ``t`` is a weight or a view of one."""
        return _base(t) in self._weights

    def knows(self, t: Tensor) -> bool:
        """Whether ``t`` is a weight or a constant: no input has a part in it."""
        return self.holds(t) or _base(t) in self._constants

    def follow(self, operands: object, results: object) -> None:
        """Results of weights and constants are weights, those of constants alone are constants.

        What no tensor goes into, as ``torch.ones``, is a constant.
        """
        bases = [_base(t) for t in _tensors(operands)]
        if all(base in self._weights or base in self._constants for base in bases):
            known = self._constants if self._weights.keys().isdisjoint(bases) else self._weights
            known.update((id(t), t) for t in _tensors(results))


def _base(t: Tensor) -> int:
    return id(t._base if t._is_view() else t)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
