"""The modules that layers are written in: from the names that a trace gives back to the model."""

from __future__ import annotations

from torch import nn

from ..lower.joint import ROOT

LOSS = "loss"


class Owners:
    """The module of each layer of a model and its loss."""

    def __init__(self, model: nn.Module, loss: object) -> None:
        self._known: dict[str, nn.Module] = {}
        named = [(name, module) for name, module in model.named_modules() if name]
        # A layer's name ends at the first #, so that a module of that very name comes first.
        for name, module in sorted(named, key=lambda pair: "#" in pair[0]):
            self._known.setdefault(_base(name), module)
        self._known.setdefault(ROOT, model)
        if isinstance(loss, nn.Module):
            self._known.setdefault(LOSS, loss)

    def of(self, layer: str) -> nn.Module | None:
        """The module that calls the layer; None of a loss that is a plain function.

        A recurrent module has several layers, ``rnn.ih_l0`` of ``rnn``.
        """
        name = _base(layer)
        around = self._known.get(name.rpartition(".")[0])
        return self._known.get(name, around if isinstance(around, nn.RNNBase) else None)


def _base(name: str) -> str:
    """Of ``name#2`` the name, on one line as programs have it."""
    return " ".join(name.partition("#")[0].splitlines()).strip()
