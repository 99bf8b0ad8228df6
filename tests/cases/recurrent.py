"""Small networks with recurrent layers, in every form that they have, and their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

STEPS, SAMPLES, WORDS, WIDE = 4, 3, 11, 7
LENGTHS = [2, 4, 1]


class Tagger(nn.Module):
    """A word's embedding, a recurrent layer, a number of each class for each word."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.first = settings.get("batch_first", False)
        self.words = nn.Embedding(WORDS, 5)
        self.rnn = kind(5, WIDE, **settings)
        wide = settings.get("proj_size") or WIDE
        self.out = nn.Linear(wide * (2 if settings.get("bidirectional") else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.out(self.rnn(self.words(x))[0])
        return made


class Packed(Tagger):
    """The same of sequences of several lengths, with what is carried behind their ends."""

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        packed = pack_padded_sequence(self.words(x), lengths, self.first, enforce_sorted=False)
        made, last = self.rnn(packed)
        rows, _ = pad_packed_sequence(made, self.first)
        return self.out(rows), last[0] if isinstance(last, tuple) else last


class KnownLengths(Packed):
    """With lengths that are no input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x, torch.tensor(LENGTHS))


class Decoder(nn.Module):
    """Begins with a state that another layer makes, and gives what is carried alone."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.rnn = nn.Linear(5, WIDE), nn.GRU(5, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.rnn(x, self.start(x[0]).unsqueeze(0))[1]
        return made


def words(first: bool = False) -> Tensor:
    """Sequences of words, by step or by sample."""
    torch.manual_seed(1)
    made: Tensor = torch.randint(WORDS, (SAMPLES, STEPS) if first else (STEPS, SAMPLES))
    return made


def tagger(kind: Any, **settings: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Tagger(kind, **settings), (words(settings.get("batch_first", False)),)


def packed(kind: Any, **settings: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    first = settings.get("batch_first", False)
    return Packed(kind, **settings), (words(first), torch.tensor(LENGTHS))


FORMS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "lstm": lambda: tagger(nn.LSTM),
    "both ways, two layers": lambda: tagger(
        nn.LSTM, num_layers=2, bidirectional=True, batch_first=True
    ),
    "projected": lambda: tagger(nn.LSTM, proj_size=4, bias=False),
    "gru": lambda: tagger(nn.GRU, bidirectional=True),
    "gru without bias": lambda: tagger(nn.GRU, bias=False),
    "relu": lambda: tagger(nn.RNN, nonlinearity="relu"),
    "tanh": lambda: tagger(nn.RNN, num_layers=2),
    "one step": lambda: (Tagger(nn.LSTM), (words()[:1],)),
    "one sample": lambda: (Tagger(nn.GRU), (words()[:, :1],)),
    "packed": lambda: packed(nn.LSTM, bidirectional=True, batch_first=True),
    "packed gru": lambda: packed(nn.GRU, num_layers=2),
    "known lengths": lambda: (KnownLengths(nn.RNN), (words(),)),
    "decoder": lambda: (Decoder(), (torch.randn(STEPS, SAMPLES, 5),)),
}
