"""Three networks for the cost model: ResNet-50, MobileNetV2 for 32x32, GPT-2 of 124 M parameters.

quatrain cost examples/accelerators.py:gpt --recipe ultra_low_4bit --accelerator fp4_array
quatrain cost examples/accelerators.py:resnet50 examples/accelerators.py:mobilenetv2 --sweep
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

import quatrain
from quatrain.tools import models

TOKENS, CONTEXT, BLOCKS, HEADS, CHANNELS = 50_257, 1024, 12, 12, 768


class Block(nn.Module):
    """Causal attention and two layers, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.queries, self.keys, self.values = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.joined = nn.Linear(CHANNELS, CHANNELS)
        self.wide = nn.Linear(CHANNELS, 4 * CHANNELS)
        self.narrow = nn.Linear(4 * CHANNELS, CHANNELS)

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


class Gpt(nn.Module):
    """Tokens in, scores of the next tokens out, both [batch, time]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, CHANNELS)
        self.places = nn.Parameter(torch.zeros(CONTEXT, CHANNELS))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.last = nn.LayerNorm(CHANNELS)
        self.scores = nn.Linear(CHANNELS, TOKENS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores ``[batch, time, token]``."""
        scores: Tensor = self.scores(self.last(self.blocks(self.table(tokens) + self.places)))
        return scores


def next_token(scores: Tensor, tokens: Tensor) -> Tensor:
    """The mean cross entropy of all tokens."""
    return cross_entropy(scores.flatten(0, 1), tokens.flatten())


def resnet50() -> quatrain.Task:
    """32 images of 224x224, 1000 classes."""
    return _images(models.resnet50(1000), (32, 3, 224, 224))


def mobilenetv2() -> quatrain.Task:
    """128 images of 32x32, 10 classes."""
    return _images(models.mobilenetv2(), (128, 3, 32, 32))


def gpt() -> quatrain.Task:
    """Two windows of 1024 tokens."""
    model = Gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1)
    tokens = torch.zeros(2, CONTEXT, dtype=torch.int64)
    return quatrain.Task(
        model=model, loss=next_token, optimizer=optimizer, example=(tokens, tokens)
    )


def _images(model: nn.Module, shape: tuple[int, ...]) -> quatrain.Task:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    example = torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64)
    return quatrain.Task(model=model, loss=cross_entropy, optimizer=optimizer, example=example)
