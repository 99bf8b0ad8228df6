"""What depends on no batch and no parameter is computed at compile, and is a constant of the step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain
from quatrain.compiler.capture.program import capture
from quatrain.compiler.errors import CaptureError
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch
CLOSED = torch.rand(5) + 0.5
INDEX = torch.tensor([3, 0, 0, -1])
Use = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """A layer, and what a test makes of it."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.layer, self.use = nn.Linear(6, 5), use
        self.index, self.factors = torch.tensor([4, 1, 1]), torch.linspace(-1, 1, 7 * 5).view(7, 5)
        self.register_buffer("rates", torch.rand(5), persistent=False)
        self.register_buffer("kept", torch.rand(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.layer(x))


def rotary(m: Any, h: Tensor) -> Tensor:
    """As transformers rotate."""
    angles = torch.outer(torch.arange(h.shape[1]).float(), m.rates)
    return h * angles.cos() + h.flip(-1) * angles.sin()


def causal(m: Any, h: Tensor) -> Tensor:
    """An additive mask, as many write it."""
    hidden = torch.full((7, 7), float("-inf")).triu(1)
    return (h @ h.transpose(1, 2) + hidden).softmax(-1) @ h


FORMS: dict[str, Use] = {
    "rotary": rotary,
    "causal": causal,
    "positions": lambda m, h: h * torch.arange(7.0).log1p()[:, None],
    "many numbers": lambda m, h: h + torch.linspace(0, 1, 7 * 5 * 3).square().view(3, 7, 5),
    "attribute": lambda m, h: h * m.factors,
    "closed over": lambda m, h: h * CLOSED + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]),
    "index": lambda m, h: h[:, m.index][..., INDEX],
    "like the batch": lambda m, h: h * torch.ones_like(h).cumsum(1),
    "identity": lambda m, h: h @ torch.eye(5).roll(1, 0),
    "kept buffer": lambda m, h: h * m.kept[:1] + m.kept,
}


def made(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Step:
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"recipe": "fp32", "target": "reference", **options}
    return quatrain.compile(model, F.mse_loss, (x, y), sgd, **options)


def same_as_eager(step: Step, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """One step; 1e-5 is ten roundings of f32."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = F.mse_loss(model(x), y)
    loss.backward()
    sgd.step()
    torch.testing.assert_close(step(x, y), loss.detach(), rtol=1e-5, atol=1e-5)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(step.state_dict()[name], tensor, rtol=1e-5, atol=1e-5)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(step.predict(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_constants_are_what_eager_computes(name: str) -> None:
    torch.manual_seed(0)
    model, x = Net(FORMS[name]), torch.randn(3, 7, 6)
    y = torch.randn(model(x).shape)
    same_as_eager(made(model, x, y), model, x, y)


def test_a_constant_is_copied_and_shared_by_all_programs_and_files(tmp_path: Path) -> None:
    weights = torch.rand(7, 5, 3)
    model = Net(lambda m, h: (h.unsqueeze(-1) * weights).sum(-1))
    x, y = torch.randn(3, 7, 6), torch.randn(3, 7, 5)
    eager, step = copy.deepcopy(model), made(model, x, y)
    (name,) = (n for n in step.state if n.startswith("constant."))
    assert step.state[name].shape == weights.squeeze().shape
    assert name not in step.state_dict()
    before = weights.clone()
    wanted = F.mse_loss((eager.layer(x).unsqueeze(-1) * before).sum(-1), y).item()
    weights.zero_()
    step.save(tmp_path / "net.qtn")
    assert step(x, y).item() == pytest.approx(wanted, rel=1e-5)
    again = quatrain.load(tmp_path / "net.qtn")
    assert again(x, y).item() == pytest.approx(wanted, rel=1e-5)


def test_another_batch_size_takes_the_same_constants() -> None:
    model, x = Net(FORMS["attribute"]), torch.randn(3, 7, 6)
    step = made(model, x, torch.randn(3, 7, 5))
    more, y = torch.randn(4, 7, 6), torch.randn(4, 7, 5)
    same_as_eager(step, model, more, y)


def test_another_batch_size_with_other_constants_is_refused() -> None:
    model = Net(lambda m, h: h + torch.linspace(0, 1, h.numel()).square().view(h.shape))
    x, y = torch.randn(3, 7, 6), torch.randn(3, 7, 5)
    step = made(model, x, y)
    before = step.state
    with pytest.raises(CaptureError, match=r"constants .* depend on the batch size"):
        step(torch.randn(4, 7, 6), torch.randn(4, 7, 5))
    assert all(torch.equal(before[name], value) for name, value in step.state.items())


class Centered(nn.Module):
    """Keeps a mean out of ``state_dict`` that training writes and evaluation reads."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)
        self.register_buffer("mean", torch.zeros(5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layer(x)
        if self.training:
            self.mean.mul_(0.5).add_(0.5 * h.detach().mean(0))
        return h - self.mean.exp().flip(0)


def test_a_buffer_that_training_alone_writes_is_no_constant() -> None:
    model, x, y = Centered(), torch.randn(3, 6), torch.randn(3, 5)
    step = made(model, x, y)
    same_as_eager(step, model, x, y)
    model.eval()
    more = torch.randn(4, 6)
    torch.testing.assert_close(step.predict(more), model(more).detach())


def test_losses_close_over_tensors() -> None:
    model, x, y = nn.Linear(6, 5), torch.randn(7, 6), torch.randint(5, (7,))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, weight=CLOSED)

    step = quatrain.compile(model, loss, (x, y), sgd, recipe="fp32", target="reference")
    torch.testing.assert_close(step(x, y), loss(model(x), y).detach(), rtol=1e-5, atol=1e-5)


def test_libraries_are_told_of_the_trace_and_only_then() -> None:
    told = []

    def use(m: Any, h: Tensor) -> Tensor:
        told.append(torch.compiler.is_exporting() and torch.compiler.is_compiling())
        return h if told[-1] else h * h.sum().item()

    model = Net(use)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    capture(model, F.mse_loss, (torch.randn(3, 6), torch.randn(3, 5)), sgd)
    assert told and all(told)
    assert not torch.compiler.is_exporting() and not torch.compiler.is_compiling()


def test_a_constant_that_is_written_is_refused() -> None:
    seen = torch.zeros(5)

    def use(m: Any, h: Tensor) -> Tensor:
        seen.add_(h.detach().mean(0))
        return h * seen

    with pytest.raises(CaptureError, match=r"test_constants\.py:\d+ writes into a tensor that is"):
        made(Net(use), torch.randn(3, 6), torch.randn(3, 5))
    assert not seen.any()


@pytest.mark.parametrize("recipe", ["ultra_low_4bit"])
def test_recipes_take_constants(recipe: str) -> None:
    torch.manual_seed(0)
    model, x = Net(lambda m, h: rotary(m, h)[:, m.index]), torch.randn(3, 7, 6)
    step = made(model, x, torch.randn(3, 3, 5), recipe=recipe)
    assert step(x, torch.randn(3, 3, 5)).isfinite()
