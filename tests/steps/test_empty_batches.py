"""Batches whose labels are all ignored: no loss, no gradient, and no scale learns anything of them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain

from ..cases.captured import captured_once

pytestmark = pytest.mark.torch
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5])
LOSSES: dict[str, Any] = {
    "plain": nn.CrossEntropyLoss(),
    "ignored_class": nn.CrossEntropyLoss(ignore_index=3),
    "weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "smoothed_weights": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
}


class Both(nn.Module):
    """A loss where it is a number, and a penalty of the scores."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, o: Tensor, y: Tensor) -> Tensor:
        total: Tensor = self.loss(o, y)
        return torch.where(total >= 0, total, 0.0) + (o * o).mean()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 5)
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, 7, generator=generator)
    return x, torch.randint(5, (4,), generator=generator)


def ignored(name: str) -> Tensor:
    """Labels of which none counts."""
    return torch.full((4,), LOSSES[name].ignore_index)


def compiled(recipe: str, target: str, name: str = "plain", **options: Any) -> Any:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with captured_once(("test_empty_batches", name)):
        return quatrain.compile(
            model, LOSSES[name], batch(), sgd, recipe=recipe, target=target, options=options
        )


def changed(step: Any, before: dict[str, Tensor]) -> set[str]:
    """The names of states with other numbers."""
    return {k for k, v in before.items() if not torch.equal(v, step.state[k])}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", ["fp16_amp", "hfp8"])
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "sum"])
def test_an_empty_batch_leaves_the_loss_scale(name: str, recipe: str, target: str) -> None:
    step = compiled(recipe, target, name)
    step(*batch())
    before = step.state
    for _ in range(3):
        assert torch.isnan(step(batch()[0], ignored(name)))
    assert changed(step, before) == {"skipped"}
    step(*batch())
    assert {"0.weight", "loss_scale.good"} <= changed(step, before)


@pytest.mark.parametrize("target", TARGETS)
def test_a_sum_over_no_label_is_a_good_step(target: str) -> None:
    step = compiled("fp16_amp", target, "sum")
    assert float(step(batch()[0], ignored("sum"))) == 0.0
    assert (step.skipped, int(step.state["loss_scale.good"])) == (0, 1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", ["ultra_low_4bit", "luq4", "int4", "s2fp8", "sbm8"])
def test_scales_of_gradients_stay_as_they_are(recipe: str, target: str) -> None:
    step = compiled(recipe, target)
    step(*batch())
    before = step.state
    step(batch()[0], ignored("plain"))
    assert changed(step, before) == {"skipped"}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_no_label_is_zero_as_in_torch(name: str) -> None:
    """Where the loss is finite by another term, the step is the one of that term."""
    x, y = batch()
    loss, model, other = Both(LOSSES[name]), network(), network()
    step = quatrain.compile(
        model,
        loss,
        (x, y),
        torch.optim.SGD(model.parameters(), lr=0.1),
        recipe="fp32",
        target="reference",
    )
    sgd = torch.optim.SGD(other.parameters(), lr=0.1)
    of_none = loss(other(x), ignored(name))
    of_none.backward()
    sgd.step()
    made = step(x, ignored(name))
    torch.testing.assert_close(made, of_none.detach())
    assert step.skipped == 0
    for key, tensor in other.state_dict().items():
        # Sums of 13 products in f32, in two orders.
        torch.testing.assert_close(step.state_dict()[key], tensor, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_statistics_that_overflow_leave_the_loss_scale(target: str) -> None:
    """Gradients are small where batch norm divides by a huge deviation."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 5))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()
    step = quatrain.compile(model, cross_entropy, (x, y), sgd, recipe="fp16_amp", target=target)
    before = step.state
    step(x * 1e25, y)
    assert step.skipped == 1 and step.state["loss_scale"] == before["loss_scale"]
