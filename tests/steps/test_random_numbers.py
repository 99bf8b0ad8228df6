"""Random numbers that a forward draws: of the right distribution, new in each step, the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch
COUNT = 4000


class Net(nn.Module):
    """What a function draws, in training and in eval."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.draw = nn.Linear(3, 3), draw

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x).mean() * 0 + self.draw(x)
        return made


def made(draw: Callable[[Tensor], Tensor], x: Tensor, **options: Any) -> Step:
    model = Net(draw)
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    options = {"recipe": "fp32", "target": "reference", **options}
    loss = lambda o, y: (o * y).sum()  # noqa: E731
    return quatrain.compile(model, loss, (x, torch.ones(draw(x).shape)), sgd, **options)


def noisy(x: Tensor) -> Tensor:
    """The reparametrization of a VAE, beside what stochastic depth and Gumbel noise draw."""
    noise = torch.randn_like(x) * 2 + 1
    kept = x.new_empty(x.shape).bernoulli_(0.3)
    gumbel = -torch.empty_like(x).exponential_().log()
    return torch.stack([noise, torch.rand(x.shape), kept, torch.bernoulli(x), gumbel])


# Of noise, rand, bernoulli_(0.3), bernoulli(0.6), a Gumbel distribution.
MEANS = (1.0, 0.5, 0.3, 0.6, 0.5772)
DEVIATIONS = (2.0, 12**-0.5, 0.21**0.5, 0.24**0.5, 1.2825)


@pytest.mark.parametrize("target", ["reference", pytest.param("cpu", marks=pytest.mark.tvm)])
def test_distributions(target: str) -> None:
    x = torch.full((COUNT, 3), 0.6)
    drawn = made(noisy, x, target=target).predict(x).reshape(5, -1)
    for numbers, mean, deviation in zip(drawn, MEANS, DEVIATIONS, strict=True):
        # Six standard errors of 12000 numbers.
        assert abs(numbers.mean().item() - mean) < 6 * deviation / 12000**0.5
        assert abs(numbers.std().item() / deviation - 1) < 0.06
    assert drawn.unique().numel() > 30000


def test_steps_draw_anew_and_seeds_say_what() -> None:
    x = torch.full((7, 3), 0.6)
    y = torch.ones(5, 7, 3)
    first, again, other = (made(noisy, x, seed=s) for s in (1, 1, 2))
    values = [first(x, y).item() for _ in range(3)]
    assert len(set(values)) == 3
    assert [again(x, y).item() for _ in range(3)] == values
    assert other(x, y).item() not in values


def test_gradients_go_by_the_numbers_of_the_forward() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 5)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return (output * torch.randn_like(output)).square().mean()

    x, sgd = torch.randn(7, 6), torch.optim.SGD(model.parameters(), lr=1e-3)
    step = quatrain.compile(model, loss, (x, x), sgd, recipe="fp32", target="reference")
    before = [step.state_dict()[name].clone() for name in ("weight", "bias")]
    value = step(x, x)
    moved = [a - step.state_dict()[n] for a, n in zip(before, ("weight", "bias"), strict=True)]
    # The loss is a square of the weights: half of the gradient times the weights is the loss.
    product = sum(float((m * b).sum()) for m, b in zip(moved, before, strict=True)) / 1e-3
    assert product / 2 == pytest.approx(value.item(), rel=1e-2)


def test_gumbel_softmax_trains() -> None:
    model, x = nn.Linear(6, 5), torch.randn(7, 6)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(F.gumbel_softmax(output, hard=True), y)

    step = quatrain.compile(
        model, loss, (x, torch.rand(7, 5)), sgd, recipe="fp32", target="reference"
    )
    assert step(x, torch.rand(7, 5)).isfinite() and not step.skipped


@pytest.mark.parametrize("recipe", ["ultra_low_4bit"])
def test_recipes_take_them(recipe: str) -> None:
    x = torch.full((7, 3), 0.6)
    assert made(noisy, x, recipe=recipe)(x, torch.ones(5, 7, 3)).isfinite()
