"""What a model of the table is made of, and small parts that many of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[Any, Any], Tensor]
CLASSES = 5


@dataclass(frozen=True)
class Given:
    """A model, its loss and a batch: the model's inputs, then the target."""

    model: nn.Module
    loss: Loss
    batch: tuple[Tensor, ...]


Make = Callable[[], Given]


class Do(nn.Module):
    """A function as a module; with modules, which it gets ahead of the inputs."""

    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


class Around(nn.Module):
    """x + inner(x), with a shortcut of its own where one is given."""

    def __init__(self, inner: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.shortcut = inner, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.inner(x) + self.shortcut(x)
        return made


class Side(nn.Module):
    """The results of several modules side by side, along the channels."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], 1)


def unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def head(channels: int, classes: int = CLASSES) -> nn.Module:
    """The mean of each channel, and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with a ReLU between them."""
    layers: list[nn.Module] = []
    for one, other in pairwise(sizes):
        layers += [nn.Linear(one, other), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def classified(*layers: nn.Module, shape: tuple[int, ...] = (3, 3, 16, 16)) -> Given:
    """Layers one after the other, classes and cross entropy."""
    classes = torch.randint(CLASSES, shape[:1])
    return Given(nn.Sequential(*layers), nn.CrossEntropyLoss(), (torch.randn(shape), classes))


def fitted(model: nn.Module, x: Tensor, target: Tensor) -> Given:
    """A model whose output is fitted to a target of its shape."""
    return Given(model, nn.MSELoss(), (x, target))


def tokens(vocabulary: int, *shape: int) -> Tensor:
    """Random integers."""
    return torch.randint(vocabulary, shape)


def each(scores: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of each place of each sequence."""
    return nn.functional.cross_entropy(scores.flatten(0, -2), target.flatten())


def rows(count: int, *, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Seven rows of numbers, and a class for each."""
    return torch.randn(7, count), torch.randint(classes, (7,))
