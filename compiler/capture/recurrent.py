"""Recurrent layers for torch's dispatcher: all time steps of a layer in one direction are one op.

Rows are ordered by step: row ``t N + n`` of ``[T N, ..]`` is sample n at step t. ``gx`` is what the
input contributes to the gates of all steps, a linear layer of its own; ``w`` multiplies what is
carried from step to step. ``cell`` is lstm, gru, rnn_tanh or rnn_relu.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

from .layers import qtr as qtr

library = Library("qtr", "FRAGMENT")
OPERANDS = "Tensor h, Tensor? c, Tensor w, Tensor? b, Tensor? w_hr, Tensor? mask"
SETTINGS = "str cell, bool reverse, str layer"
library.define(f"recurrent(Tensor gx, {OPERANDS}, {SETTINGS}) -> (Tensor, Tensor, Tensor)")
library.define(
    f"recurrent_grad(Tensor ghs, Tensor gh, Tensor gc, Tensor hs, Tensor gx, {OPERANDS}, "
    f"{SETTINGS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _shapes(gx: Tensor, h: Tensor, c: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Of h in all steps, and of h and c behind the last one."""
    rows = gx.shape[0]
    last = gx.new_empty((0,)) if c is None else torch.empty_like(c)
    return gx.new_empty((rows, h.shape[1])), torch.empty_like(h), last


def _grad_shapes(
    ghs: Tensor, gh: Tensor, gc: Tensor, hs: Tensor, *operands: Any
) -> tuple[Tensor, ...]:
    gx, h, c, w, b, w_hr = operands[:6]
    return tuple(gx.new_empty((0,) if t is None else t.shape) for t in (gx, h, c, w, b, w_hr))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *operands, ctx.cell, ctx.reverse, ctx.layer = inputs
    ctx.there = [t is not None for t in operands]
    ctx.save_for_backward(output[0], *(t for t in operands if t is not None))


def _backward(ctx: Any, ghs: Tensor, gh: Tensor, gc: Tensor) -> tuple[Tensor | None, ...]:
    hs, *saved = ctx.saved_tensors
    kept = iter(saved)
    operands = [next(kept) if there else None for there in ctx.there]
    settings = (ctx.cell, ctx.reverse, ctx.layer)
    made = qtr.recurrent_grad(ghs, gh, gc, hs, *operands, *settings)
    wanted = zip(made, ctx.there, ctx.needs_input_grad, strict=False)
    grads = [g if there and needs else None for g, there, needs in wanted]
    return *grads, None, None, None, None


register_fake("qtr::recurrent", _shapes, lib=library)
register_fake("qtr::recurrent_grad", _grad_shapes, lib=library)
register_autograd("qtr::recurrent", _backward, setup_context=_save, lib=library)
