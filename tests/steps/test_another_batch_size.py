"""Batches of another size train what was compiled, or are refused; nothing goes back or is lost."""

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch


class Network(nn.Module):
    """A normalized layer, a dropout and a factor that is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(5, 6), nn.BatchNorm1d(6)
        self.drop, self.b = nn.Dropout(0.5), nn.Linear(6, 3)
        self.factor = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.b(self.drop(torch.relu(self.norm(self.a(x)))))
        return made * self.factor


def made(model: Network, recipe: str = "fp32") -> tuple[Step, torch.optim.Optimizer]:
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    return quatrain.compile(
        model, cross_entropy, batch(8), adam, recipe=recipe, target="reference"
    ), adam


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 5, generator=generator), torch.arange(size) % 3


def set_rate(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.drop.p = 0.25


def freeze(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.a.requires_grad_(False)


def count(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.factor = 3.0


def replace_activation(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.drop = nn.Identity()  # type: ignore[assignment]


def move_to_another_group(model: Network, optimizer: torch.optim.Optimizer) -> None:
    moved = optimizer.param_groups[0]["params"].pop()
    optimizer.add_param_group({"params": [moved], "lr": 0.5})


def clip(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.norm = nn.Sequential(model.norm, nn.Hardtanh(-2, 2))  # type: ignore[assignment]


def add_buffer(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.register_buffer("shift", torch.ones(3))


def switch_the_optimizer(model: Network, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0].update(maximize=True)


def norm_slowly(model: Network, optimizer: torch.optim.Optimizer) -> None:
    model.norm.momentum = 0.2


CHANGES: dict[Callable[[Network, torch.optim.Optimizer], None], str] = {
    set_rate: r"keep of random_mask in layer 'drop' is 0\.75, not 0\.5",
    freeze: r"a\.bias is not trained",
    count: r"factor of scale in layer 'model' is 3\.0, not 2\.0",
    replace_activation: r"layer 'drop' does not compute random_mask, mul, scale",
    move_to_another_group: r"it has group1\.\w+, which is new",
    clip: r"layer 'norm' does not compute batch_stats, batch_norm",
    add_buffer: r"it has shift, which is new",
    switch_the_optimizer: r"maximize of adam in layer 'a' is true, not false",
    norm_slowly: r"momentum of running_stats in layer 'norm'",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_is_refused_and_nothing_moves(
    change: Callable[[Network, torch.optim.Optimizer], None],
) -> None:
    model = Network()
    step, optimizer = made(model)
    step(*batch(8))
    change(model, optimizer)
    before = step.state
    message = f"no longer what was compiled: {CHANGES[change]}[^:={{}}]*; compile it again$"
    with pytest.raises(CaptureError, match=message) as found:
        step(*batch(4))
    assert "\n" not in str(found.value)
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())


@pytest.mark.parametrize("recipe", ["fp32", "ultra_low_4bit"])
@pytest.mark.parametrize("evaluated", ["norm", "drop", ""])
def test_each_module_trains_as_it_did(evaluated: str, recipe: str) -> None:
    """The flags of now do not count: a step beside one whose model was left alone, to the byte."""
    steps = []
    for switch in (True, False):
        torch.manual_seed(0)
        model = Network()
        model.get_submodule(evaluated).training = evaluated == ""
        step, _ = made(model, recipe)
        if switch:
            model.train(evaluated != "")
        flags = [m.training for m in model.modules()]
        step(*batch(4))
        assert flags == [m.training for m in model.modules()]
        steps.append(step)
    ours, theirs = (step.state for step in steps)
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_batches_without_samples_are_refused(target: str) -> None:
    model = Network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        quatrain.QuatrainError, match=r"element 0 of the example has shape \[0, 5\]"
    ):
        quatrain.compile(model, cross_entropy, batch(0), sgd, recipe="fp32", target=target)
    step = quatrain.compile(model, cross_entropy, batch(8), sgd, recipe="fp32", target=target)
    x, y = batch(8)
    for given in ((x[:0], y[:0]), (x, y[:0]), (x[:, :0], y)):
        with pytest.raises(quatrain.QuatrainError, match="no numbers"):
            step(*given)
    assert step.predict(x[:0]).shape == (0, 3)
