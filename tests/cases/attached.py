"""A small model to attach things to, compiled, refused, or compared with eager."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError
from quatrain.runtime.step import Step

SGD = torch.optim.SGD


class Body(nn.Module):
    """Two layers and a buffer; ``forward`` is what a test gives."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(6))
        self.count, self.on, self.seen, self.cache = 0, False, [1], {"kept": 1}
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def plain(m: Any, x: Tensor) -> Tensor:
    made: Tensor = m.b(torch.relu(m.a(x)))
    return made


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 6, generator=generator), torch.arange(8) % 4


def made(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Step:
    optimizer = optimizer or SGD(list(model.parameters()), lr=0.1)
    return quatrain.compile(
        model, cross_entropy, batch(), optimizer, recipe="fp32", target="reference"
    )


def refused(model: nn.Module, message: str, optimizer: torch.optim.Optimizer | None = None) -> None:
    with pytest.raises(CaptureError, match=message) as found:
        made(model, optimizer)
    assert "\n" not in str(found.value)


def same_as_eager(model: nn.Module, eager: nn.Module | None = None) -> None:
    """One step of SGD; 1e-5 is ten roundings of f32 of weights around 1.

    ``eager`` is a copy of a model that cannot be copied.
    """
    eager = eager or copy.deepcopy(model)
    sgd = SGD(eager.parameters(), lr=0.1)
    step = made(model)
    x, y = batch()
    cross_entropy(eager(x), y).backward()
    sgd.step()
    step(x, y)
    for name, ours in step.state_dict().items():
        torch.testing.assert_close(ours, eager.state_dict()[name], rtol=1e-5, atol=1e-5)
