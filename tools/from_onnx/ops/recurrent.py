"""Recurrent networks: torch's own, fed with weights in the order of its gates.

``run_recurrent`` takes ONNX's operands and gives ONNX's results, by whatever runs the time steps:
a module of torch, or a function of weights that are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..definitions import Known, NodeResults, ints, onnx_op
from ..graph import OnnxNode

# Torch's gates by their number in ONNX: iofc becomes ifgo, zrh becomes rzn.
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
ACTIVATIONS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "LSTM": [("sigmoid", "tanh", "tanh")],
    "GRU": [("sigmoid", "tanh")],
    "RNN": [("tanh",), ("relu",)],
}
WEIGHTS = ("w", "r", "b")
States = tuple[Tensor, ...]
# What runs the time steps: of x and the first states, y and the last states.
TimeSteps = Callable[[Tensor, States], tuple[Tensor, States]]


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What a node says of its network."""

    kind: str
    hidden: int
    directions: int
    backwards: bool
    batch_first: bool
    activation: str
    reset_first: bool

    @classmethod
    def of(cls, node: OnnxNode) -> Self:
        """Of a node; UnsupportedOpError for what torch's networks do not do."""
        direction = node.word("direction", "forward")
        directions = 2 if direction == "bidirectional" else 1
        words = tuple(w.lower() for w in node.words("activations"))
        known = ACTIVATIONS[node.op]
        chosen = words or known[0] * directions
        if chosen not in [w * directions for w in known]:
            node.refuse(f"has activations {', '.join(words)}; known: {', '.join(known[0])}")
        if node.has("clip") or node.whole("input_forget", 0):
            node.refuse("clips its cells or couples its gates; torch's networks do not")
        return cls(
            kind=node.op,
            hidden=node.whole("hidden_size"),
            directions=directions,
            backwards=direction == "reverse",
            batch_first=bool(node.whole("layout", 0)),
            activation=chosen[0],
            reset_first=node.op == "GRU" and not node.whole("linear_before_reset", 0),
        )


def by_gate(kind: str, weight: Tensor) -> Tensor:
    """``weight``, whose rows are ONNX's gates, with torch's."""
    gates = weight.chunk(len(GATES[kind]))
    return torch.cat([gates[i] for i in GATES[kind]]) if len(gates) > 1 else weight


def flat_weights(kind: str, w: Tensor, r: Tensor, b: Tensor | None) -> list[Tensor]:
    """Weights in torch's order: for each direction input, hidden, and their biases."""
    made = []
    for d in range(w.shape[0]):
        made += [by_gate(kind, w[d]), by_gate(kind, r[d])]
        if b is not None:
            made += [by_gate(kind, part) for part in b[d].chunk(2)]
    return made


def run_recurrent(
    node: OnnxNode,
    run: TimeSteps,
    x: Tensor,
    lengths: np.ndarray | None,
    first: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """ONNX's results: all hidden states, the last ones, of an LSTM also the last cells."""
    of = Recurrence.of(node)
    if of.batch_first:
        x = x.transpose(0, 1)
    if lengths is not None and set(ints(lengths)) != {x.shape[0]}:
        node.refuse("has sequences of several lengths; a step is made for one, so pad them")
    zeros = x.new_zeros(of.directions, x.shape[1], of.hidden)
    states = [
        zeros if s is None else s.transpose(0, 1) if of.batch_first else s
        for s in (*first, *[None] * 2)[: 2 if of.kind == "LSTM" else 1]
    ]
    y, last = run(x.flip(0) if of.backwards else x, tuple(states))
    y = y.flip(0) if of.backwards else y
    y = y.reshape(*y.shape[:2], of.directions, of.hidden).transpose(1, 2)
    if not of.batch_first:
        return y, *last
    return y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in last)


def _functional(node: OnnxNode, weights: list[Tensor], biased: bool) -> TimeSteps:
    """Time steps by weights that are tensors."""
    of = Recurrence.of(node)
    rest = (biased, 1, 0.0, False, of.directions == 2, False)

    def run(x: Tensor, states: States) -> tuple[Tensor, States]:
        if of.reset_first:
            return _reset_first(x, states[0], weights, biased)
        if of.kind == "LSTM":
            y, h, c = torch.lstm(x, states, weights, *rest)
            return y, (h, c)
        one = {"GRU": torch.gru, "RNN": torch.rnn_tanh}[of.kind]
        y, h = (torch.rnn_relu if of.activation == "relu" else one)(x, states[0], weights, *rest)
        return y, (h,)

    return run


def _reset_first(
    x: Tensor, first: Tensor, weights: list[Tensor], biased: bool
) -> tuple[Tensor, States]:
    """A GRU that resets the state ahead of its product, which torch's does behind it."""
    each = 4 if biased else 2
    found = []
    for d in range(len(first)):
        w, r, *biases = weights[d * each : (d + 1) * each]
        bi, bh = (b.chunk(3) for b in biases) if biased else ((0.0,) * 3,) * 2
        wr, wz, wn = w.chunk(3)
        rr, rz, rn = r.chunk(3)
        h, steps = first[d], []
        for at in (x.flip(0) if d else x).unbind(0):
            reset = torch.sigmoid(at @ wr.t() + bi[0] + h @ rr.t() + bh[0])
            keep = torch.sigmoid(at @ wz.t() + bi[1] + h @ rz.t() + bh[1])
            new = torch.tanh(at @ wn.t() + bi[2] + (reset * h) @ rn.t() + bh[2])
            h = (1.0 - keep) * new + keep * h
            steps.append(h)
        found.append(torch.stack(steps[::-1] if d else steps))
    last = torch.stack([y[0] if d else y[-1] for d, y in enumerate(found)])
    return torch.cat(found, -1), (last,)


def _made(
    node: OnnxNode,
    x: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None],
    lengths: np.ndarray | None,
    first: Sequence[Tensor | None],
) -> NodeResults:
    flat = flat_weights(node.op, *weights)
    return run_recurrent(node, _functional(node, flat, weights[2] is not None), x, lengths, first)


@onnx_op("LSTM", weights=WEIGHTS)
def lstm(
    node: OnnxNode,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Known | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
) -> NodeResults:
    """A long short-term memory, without peepholes."""
    check_peepholes(node, p)
    return _made(node, x, (w, r, b), lengths, (h, c))


def check_peepholes(node: OnnxNode, p: object) -> None:
    """Raise UnsupportedOpError for an LSTM whose gates see its cells."""
    if p is not None:
        node.refuse("has peepholes, which torch's LSTM has not")


@onnx_op("GRU", "RNN", weights=WEIGHTS)
def gru(
    node: OnnxNode,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Known | None = None,
    h: Tensor | None = None,
) -> NodeResults:
    """Gated recurrent units, or a plain recurrence."""
    return _made(node, x, (w, r, b), lengths, (h,))
