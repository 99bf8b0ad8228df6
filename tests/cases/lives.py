"""The life of a step as data: a network with repeated operands, and what happens to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .fuzz_networks import CLASSES, Shape

WIDTHS = (1, 3, 5, 8, 13)
SIZES = (1, 3, 6, 9)
BATCHES = (1, 2, 3, 5, 8)
EVENTS = (
    "step",
    "step",
    "step",
    "other",
    "other",
    "eval",
    "rate",
    "save",
    "predict",
    "load",
    "nan",
)
ENDS = ("freeze", "dropout", "move")  # what another batch size refuses; the last event

Binary = Callable[[Tensor], Tensor]
# Both operands are one value, or views of one.
TWICE: dict[str, Binary] = {
    "add": lambda x: x + x,
    "sub": lambda x: x + (x - x),
    "mul": lambda x: x * torch.sigmoid(x) + 0.1 * x * x,
    "div": lambda x: x + x.square() / (1 + x.square()),
    "max": lambda x: torch.maximum(x, x),
    "where": lambda x: torch.where(x > x, x, torch.where(x == x, x, -x)),
    "cat": lambda x: torch.cat([x, x], 1)[:, x.shape[1] // 2 : x.shape[1] // 2 + x.shape[1]],
    "stack": lambda x: torch.stack([x, x, x]).mean(0),
    "gram": lambda x: x + (x.flatten(2) @ x.flatten(2).mT).mean(-1)[..., None, None],
    "attend": lambda x: x + nn.functional.scaled_dot_product_attention(
        *(x.flatten(2).mT.contiguous(),) * 3
    ).mT.reshape(x.shape),
    "flip": lambda x: x + x.flip(3) * x.mT.mT,
    "views": lambda x: (x.reshape(-1) + x.flatten()).reshape(x.shape) / 2,
    "norm": lambda x: (x - x.mean((2, 3), keepdim=True)) / (1 + x.abs().mean((2, 3), keepdim=True)),
    "expand": lambda x: x * x.mean(1, keepdim=True).expand_as(x) + x[:, :1].expand_as(x),
}  # fmt: skip


@dataclass(frozen=True)
class Life:
    """A network, how its optimizer came, and what happens, by seed."""

    seed: int
    batch: int
    shape: Shape
    blocks: tuple[str, ...]
    shared: bool
    tied: bool
    optimizer: str
    before: int  # steps of eager ahead of compile
    events: tuple[str, ...]


class Twisted(nn.Module):
    """Blocks of a convolution, a norm, and an op that takes one value twice."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        torch.manual_seed(life.seed)
        c, self.blocks, self.tied = life.shape[0], life.blocks, life.tied
        convolutions = [nn.Conv2d(c, c, 3, padding=1) for _ in life.blocks]
        if life.shared:
            convolutions = convolutions[:1] * len(convolutions)
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for _ in life.blocks)
        self.dropout = nn.Dropout(0.0)
        self.register_buffer("seen", torch.zeros(c))
        self.head = nn.Linear(c, CLASSES)
        self.again = nn.Linear(c, CLASSES)
        if life.tied:
            self.again.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        for i, block in enumerate(self.blocks):
            x = TWICE[block](torch.tanh(self.norms[i](self.convolutions[i](x))))
        pooled = self.dropout(x.mean((2, 3)))
        if self.training:
            self.seen.mul_(0.9).add_(pooled.detach().mean(0), alpha=0.1)  # type: ignore[operator]
        made: Tensor = self.head(pooled) - 0.5 * self.again(pooled + self.seen)
        return made


def draw_life(seed: int) -> Life:
    """A random life."""
    rng = random.Random(seed)
    blocks = tuple(rng.choices(sorted(TWICE), k=rng.randint(1, 3)))
    events = tuple(rng.choices(EVENTS, k=rng.randint(3, 6)))
    if rng.random() < 0.3:
        events = (*events, rng.choice(ENDS))
    shape = rng.choice(WIDTHS), rng.choice(SIZES), rng.choice(SIZES)
    batch = max(rng.choice(BATCHES), 2 if shape[1] * shape[2] < 4 else 1)
    return Life(
        seed,
        batch,
        shape,
        blocks,
        rng.random() < 0.3,
        rng.random() < 0.3,
        rng.choice(("sgd", "adam", "adamw", "rmsprop")),
        rng.choice((0, 0, 1, 3)),
        events,
    )
