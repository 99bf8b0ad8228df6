"""Networks of the kinds that people train, small enough to check one step of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quatrain.tools import models

CLASSES, TOKENS, LENGTH = 10, 17, 12
Loss = Callable[[Tensor, Tensor], Tensor]


class DenseLayer(nn.Module):
    """DenseNet-BC's layer: its result stands beside its input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """More channels."""
        return torch.cat([x, self.body(x)], 1)


def densenet(growth: int = 6, layers: int = 3) -> nn.Module:
    """DenseNet-BC of two blocks."""
    channels = 2 * growth
    parts: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    for block in range(2):
        for _ in range(layers):
            parts.append(DenseLayer(channels, growth))
            channels += growth
        parts += [nn.BatchNorm2d(channels), nn.ReLU()]
        if block == 0:
            parts += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """Down by pooling, up by a transposed convolution and by interpolation."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.one, self.two = self.block(3, width), self.block(width, 2 * width)
        self.low = self.block(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")
        self.back, self.last = self.block(4 * width, 2 * width), self.block(3 * width, width)
        self.head, self.pool = nn.Conv2d(width, CLASSES, 1), nn.MaxPool2d(2)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Module:
        """Convolution, group norm, activation."""
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores of every pixel."""
        a = self.one(x)
        b = self.two(self.pool(a))
        c = self.low(self.pool(b))
        b = self.back(torch.cat([self.up(c), b], 1))
        made: Tensor = self.head(self.last(torch.cat([self.resize(b), a], 1)))
        return made


class Block(nn.Module):
    """A transformer's block with norms ahead."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attention to what came before, then the MLP."""
        b, t, c = x.shape
        parts = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, c))
        made: Tensor = x + self.mlp(self.norm2(x))
        return made


class Gpt(nn.Module):
    """A small GPT with tied embeddings."""

    def __init__(self, width: int = 16, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.table, self.place = nn.Embedding(TOKENS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, TOKENS, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the next token at every place."""
        h = self.table(x) + self.place(torch.arange(x.shape[1]))
        made: Tensor = self.head(self.norm(self.blocks(h)))
        return made


def awkward() -> nn.Module:
    """Channels 3, 7, 12, 20, 33 with groups, dilation and stride 3, for images of 27x29."""
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 12, 3, stride=3, padding=2, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 20, 3, padding=2, dilation=2, groups=4),
        nn.ReLU(),
        nn.Conv2d(20, 33, (1, 3), groups=1),
        nn.ReLU(),
        nn.Conv2d(33, 33, 3, padding=1, groups=33),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(33 * 6, CLASSES),
    )


def vgg_with_dropout() -> nn.Module:
    """VGG-11-BN with dropout ahead of its classifier."""
    model = models.vgg11_bn()
    return nn.Sequential(*list(model.children())[:-1], nn.Dropout(0.5), list(model.children())[-1])


def mlp() -> nn.Module:
    """Three layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 49, 33), nn.ReLU(), nn.Linear(33, 28), nn.ReLU(),
        nn.Linear(28, CLASSES),
    )  # fmt: skip


def tokens_loss(out: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of every place."""
    return cross_entropy(out.flatten(0, 1), y.flatten())


def images(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Noise with labels."""
    return torch.randn(batch, 3, height, width), torch.randint(CLASSES, (batch,))


def pixels(batch: int) -> tuple[Tensor, Tensor]:
    """Noise with a label for each pixel."""
    return torch.randn(batch, 3, 16, 16), torch.randint(CLASSES, (batch, 16, 16))


def text(batch: int) -> tuple[Tensor, Tensor]:
    """Tokens and the tokens that follow."""
    x = torch.randint(TOKENS, (batch, LENGTH))
    return x, x.roll(-1, 1)


@dataclass(frozen=True)
class Network:
    """How to make a network and a batch for it."""

    make: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    loss: Loss = cross_entropy


NETWORKS = {
    "mlp": Network(mlp, lambda: images(13, 7, 7)),
    "resnet20": Network(models.resnet20, lambda: images(8, 32, 32)),
    "resnet18": Network(models.resnet18, lambda: images(3, 32, 32)),
    "vgg11_bn_dropout": Network(vgg_with_dropout, lambda: images(4, 32, 32)),
    "mobilenetv2": Network(models.mobilenetv2, lambda: images(3, 32, 32)),
    "densenet_bc": Network(densenet, lambda: images(5, 14, 14)),
    "unet": Network(UNet, lambda: pixels(3), cross_entropy),
    "gpt": Network(Gpt, lambda: text(5), tokens_loss),
    "awkward": Network(awkward, lambda: images(3, 27, 29)),
}
