"""Language models for the command line: words by an LSTM, characters by a small transformer.

WIDTH=650 DROPOUT=0.5 quatrain compile examples/words.py:ptb --recipe ultra_low_4bit -o ptb.qtn
quatrain run ptb.qtn --data ptb --data-dir DATA --epochs 5 --schedule cosine
quatrain study recipes --network examples/words.py:shakespeare --data shakespeare --steps 1000
"""

import os

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

import quatrain

# Penn Treebank: 10,000 words, windows of 35 in 20 streams, as is usual; 650 units are "medium".
WORDS, STEPS, STREAMS, LAYERS = 10_000, 35, 20, 2
WIDTH = int(os.environ.get("WIDTH", "200"))
TIED, DROPOUT = os.environ.get("TIED") == "1", float(os.environ.get("DROPOUT", "0"))
# tinyshakespeare: 65 characters.
CHARACTERS, CONTEXT, BATCH = 65, 64, 32
DEPTH, HEADS, CHANNELS = 3, 4, 96


class Recurrent(nn.Module):
    """Words in, scores of the next words out, both [time, stream]; each window starts at zero.

    ``tied``: the table of words is the last matrix too.
    """

    def __init__(self, width: int, tied: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, width)
        self.layers = nn.LSTM(width, width, LAYERS, dropout=dropout)
        self.scores = nn.Linear(width, WORDS)
        self.drop = nn.Dropout(dropout)
        if tied:
            self.scores.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        """Scores ``[time, stream, word]``."""
        found, _ = self.layers(self.drop(self.table(words)))
        scores: Tensor = self.scores(self.drop(found))
        return scores


class Block(nn.Module):
    """Causal attention and two layers, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.queries, self.keys, self.values = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.joined = nn.Linear(CHANNELS, CHANNELS)
        self.wide, self.narrow = (
            nn.Linear(CHANNELS, 4 * CHANNELS),
            nn.Linear(4 * CHANNELS, CHANNELS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape, ``[batch, time, channel]``."""
        batch, time, _ = x.shape
        h = self.before(x)
        parts = (self.queries(h), self.keys(h), self.values(h))
        heads = (p.view(batch, time, HEADS, -1).transpose(1, 2) for p in parts)
        met = scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.joined(met.transpose(1, 2).reshape(batch, time, CHANNELS))
        added: Tensor = x + self.narrow(gelu(self.wide(self.between(x))))
        return added


class Transformer(nn.Module):
    """Characters in, scores of the next characters out, both [batch, time]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(CHARACTERS, CHANNELS)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, CHANNELS))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.last, self.scores = nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, CHARACTERS)

    def forward(self, characters: Tensor) -> Tensor:
        """Scores ``[batch, time, character]``."""
        x = self.table(characters) + self.places
        scores: Tensor = self.scores(self.last(self.blocks(x)))
        return scores


def next_token(scores: Tensor, tokens: Tensor) -> Tensor:
    """The mean cross entropy of all tokens, in nats."""
    return cross_entropy(scores.flatten(0, 1), tokens.flatten())


def ptb() -> quatrain.Task:
    """Two layers of LSTM for Penn Treebank; WIDTH, TIED and DROPOUT are of the environment."""
    model = Recurrent(WIDTH, TIED, DROPOUT)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.1, 0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    example = torch.zeros(2, STEPS, STREAMS, dtype=torch.int64)
    return quatrain.Task(
        model=model, loss=next_token, optimizer=optimizer, example=(example[0], example[1])
    )


def shakespeare() -> quatrain.Task:
    """Three blocks of a transformer for tinyshakespeare."""
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    example = torch.zeros(2, BATCH, CONTEXT, dtype=torch.int64)
    return quatrain.Task(
        model=model, loss=next_token, optimizer=optimizer, example=(example[0], example[1])
    )
