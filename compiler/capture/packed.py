"""Packed sequences while a graph is traced: rows of all steps, padded, the lengths beside them.

How many rows a packed tensor has depends on its lengths, and a step's shapes are fixed. So here the
rows of a packed sequence are those of all samples in all steps, and a mask says which there are.
They go into recurrent layers and back to ``pad_packed_sequence``, whose result has as many steps as
the input had, as with its ``total_length``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from ..errors import CaptureError
from ..lower.joint import place
from .adapter import CallMark
from .recurrent_layers import CELLS, Recurrent, RecurrentSettings, Sequences
from .scope import Scope

functions = torch._C._VariableFunctions


class BatchSizes(Tensor):
    """Stands where torch has the number of samples of each step; the same in all of them here."""

    steps: int
    samples: int
    lengths: Tensor
    mask: Tensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def of(cls, steps: int, lengths: Tensor) -> BatchSizes:
        """Of sequences of some lengths."""
        samples = lengths.shape[0]
        with _disable_current_modes():
            made = torch.full((steps,), samples).as_subclass(cls)
        made.steps, made.samples, made.lengths = steps, samples, lengths
        there = torch.arange(steps).unsqueeze(1) < lengths
        made.mask = there.to(torch.float32).reshape(steps * samples, 1)
        return made

    def __getitem__(self, step: object) -> int:  # type: ignore[override]
        if step != 0:
            raise CaptureError(
                "how many samples a packed sequence has in a later step depends on its lengths, and"
                " a step's shapes are fixed; ask the lengths"
            )
        return self.samples


class Packed:
    """What calls on packed sequences become."""

    def __init__(
        self, scope: Scope, written: Mapping[Callable[..., Any], Callable[..., Any]]
    ) -> None:
        """``written`` are other functions and what is called in their place."""
        self.layers, self.written = Recurrent(scope), written
        self.rows: list[Tensor] = []  # of packed sequences

    def instead(
        self, function: Any, args: tuple[Any, ...], options: Mapping[str, Any], mark: CallMark
    ) -> Callable[..., Any]:
        """What to call in the place of a function; CaptureError where nothing would be right."""
        name = getattr(function, "__name__", "")
        if function is getattr(functions, "_pack_padded_sequence", None):
            return self.pack
        if function is getattr(functions, "_pad_packed_sequence", None):
            return self.pad
        if name in CELLS and len(args) > 1 and isinstance(args[1], BatchSizes):
            return self.layer(name)
        if name not in READS and any(map(self._is_packed, tree_leaves((args, options)))):
            raise CaptureError(
                f"{place(*mark[:2])} calls {name} on the data of a packed sequence, which a step"
                " keeps padded; call it ahead of pack_padded_sequence or behind pad_packed_sequence"
            )
        return self.written.get(function, function)

    def _is_packed(self, leaf: object) -> bool:
        return isinstance(leaf, BatchSizes) or any(leaf is rows for rows in self.rows)

    def pack(self, x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        """The rows of all steps."""
        x = x.transpose(0, 1) if batch_first else x
        steps, samples, *rest = x.shape
        sizes = BatchSizes.of(steps, lengths)
        return self._kept(x.reshape(steps * samples, *rest)), sizes

    def pad(
        self, rows: Tensor, sizes: BatchSizes, batch_first: bool, value: float, length: int
    ) -> tuple[Tensor, Tensor]:
        """The rows by step, ``value`` behind the end of each sequence; its lengths."""
        there = sizes.mask.reshape(-1, *(1,) * (rows.dim() - 1)) != 0
        padded = torch.where(there, rows, value)
        padded = padded.reshape(sizes.steps, sizes.samples, *rows.shape[1:])
        if length > sizes.steps:
            more = padded.new_full((length - sizes.steps, *padded.shape[1:]), value)
            padded = torch.cat([padded, more])
        return padded.transpose(0, 1) if batch_first else padded, sizes.lengths

    def layer(self, cell: str) -> Callable[..., tuple[Tensor, ...]]:
        """A recurrent layer on packed rows."""

        def call(
            rows: Tensor,
            sizes: BatchSizes,
            hx: Any,
            params: Any,
            biases: bool,
            layers: int,
            dropout: float,
            train: bool,
            bidirectional: bool,
        ) -> tuple[Tensor, ...]:
            settings = RecurrentSettings(cell, biases, layers, dropout, train, bidirectional)
            given = Sequences(rows, sizes.steps, sizes.mask)
            made, *last = self.layers.run(given, hx, params, settings)
            return (self._kept(made), *last)

        return call

    def _kept(self, rows: Tensor) -> Tensor:
        self.rows.append(rows)
        return rows


# What says something of a tensor, and computes nothing with it.
READS = frozenset(("__get__", "dim", "size", "is_floating_point"))
