"""Recurrent layers while a graph is traced: LSTM, GRU and RNN in all their forms.

Each direction of each layer is a linear layer on the inputs of all steps, ``MODULE.ih_l0``, and
one op for the steps, in which ``MODULE.hh_l0`` multiplies what is carried; ``MODULE.hr_l0``
projects it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .recurrent import qtr
from .scope import Scope

aten = torch.ops.aten
CELLS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows ordered by step; ``mask`` is 1 in the rows [T N, 1] that a sample still has."""

    rows: Tensor
    steps: int
    mask: Tensor | None = None

    def of(self, rows: Tensor) -> Sequences:
        """Others of the same steps."""
        return Sequences(rows, self.steps, self.mask)


@dataclass(frozen=True, slots=True)
class RecurrentSettings:
    """How a recurrent module runs its layers."""

    cell: str
    biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool

    @property
    def directions(self) -> Sequence[str]:
        """What torch adds to the names of each."""
        return ("", "_reverse") if self.bidirectional else ("",)


class Recurrent:
    """What calls of recurrent layers become."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def table(self) -> dict[Any, Callable[..., tuple[Tensor, ...]]]:
        """The replaced ops."""
        return {getattr(aten, cell).input: self.padded(cell) for cell in CELLS}

    def padded(self, cell: str) -> Callable[..., tuple[Tensor, ...]]:
        """A layer on a batch of sequences of one length."""

        def call(
            x: Tensor,
            hx: Tensor | Sequence[Tensor],
            params: Sequence[Tensor],
            biases: bool,
            layers: int,
            dropout: float,
            train: bool,
            bidirectional: bool,
            batch_first: bool,
        ) -> tuple[Tensor, ...]:
            x = x.transpose(0, 1) if batch_first else x
            steps, samples, features = x.shape
            settings = RecurrentSettings(cell, biases, layers, dropout, train, bidirectional)
            given = Sequences(x.reshape(steps * samples, features), steps)
            made, *last = self.run(given, hx, params, settings)
            y = made.reshape(steps, samples, made.shape[1])
            return (y.transpose(0, 1) if batch_first else y, *last)

        return call

    def run(
        self,
        x: Sequences,
        hx: Tensor | Sequence[Tensor],
        params: Sequence[Tensor],
        settings: RecurrentSettings,
    ) -> tuple[Tensor, ...]:
        """All layers: the rows of the last one, and what each carries behind its last step."""
        first = [t.unbind(0) for t in ((hx,) if isinstance(hx, Tensor) else hx)]
        weights, name = iter(params), self.scope.layer("recurrent")
        behind: list[tuple[Tensor, ...]] = []
        for layer in range(settings.layers):
            made: list[Tensor] = []
            for i, direction in enumerate(settings.directions):
                at = layer * len(settings.directions) + i
                cell = _Cell(settings, name, f"l{layer}{direction}", i == 1)
                rows, *last = cell.run(x, [t[at] for t in first], cell.take(weights, first))
                made.append(rows)
                behind.append(tuple(last))
            rows = made[0] if len(made) == 1 else torch.cat(made, 1)
            if layer + 1 < settings.layers and settings.dropout:
                rows = torch.dropout(rows, settings.dropout, settings.train)
            x = x.of(rows)
        return (x.rows, *(torch.stack(parts) for parts in zip(*behind, strict=True)))


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction of one layer."""

    settings: RecurrentSettings
    module: str
    name: str
    reverse: bool

    def layer(self, part: str) -> str:
        """Its layers in reports; those of a module's second call end like that."""
        module, mark, nth = self.module.partition("#")
        return f"{module}.{part}{self.name}{mark}{nth}"

    def take(
        self, weights: Iterator[Tensor], first: Sequence[Sequence[Tensor]]
    ) -> tuple[Tensor | None, ...]:
        """Its weights, in torch's order: w_ih, w_hh, b_ih, b_hh, w_hr."""
        w_ih, w_hh = next(weights), next(weights)
        b_ih, b_hh = (next(weights) for _ in range(2)) if self.settings.biases else (None, None)
        projected = len(first) > 1 and first[0][0].shape[-1] != first[1][0].shape[-1]
        return w_ih, w_hh, b_ih, b_hh, next(weights) if projected else None

    def run(
        self, x: Sequences, first: Sequence[Tensor], weights: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, ...]:
        """The rows of all steps, and what is carried behind the last one."""
        w_ih, w_hh, b_ih, b_hh, w_hr = weights
        if self.settings.cell != "gru" and b_ih is not None and b_hh is not None:
            # Both are added to the same sum; of a GRU's last gate a product stands between.
            b_ih, b_hh = b_ih + b_hh, None
        gx = qtr.linear(x.rows, w_ih, b_ih, self.layer("ih_"))
        h, c = (*first, None)[:2]
        rows, *last = qtr.recurrent(
            *(gx, h, c, w_hh, b_hh, w_hr, x.mask),
            *(self.settings.cell, self.reverse, self.layer("")),
        )
        return (rows, *last[: len(first)])
