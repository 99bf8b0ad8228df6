"""Optimizers beside torch.optim: several steps, groups, schedules, a state of before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

import quatrain
from quatrain.compiler.errors import CaptureError, InputError

Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=1e-2),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.8, 0.99), weight_decay=1e-2),
    "adam_maximize": lambda p: torch.optim.Adam(p, lr=1e-2, maximize=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, eps=1e-6),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, weight_decay=1e-2),
    "rmsprop_plain": lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9),
}
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))


class Network(nn.Module):
    """Two layers whose gradients are smooth functions of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 13), nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        made: Tensor = self.b(torch.tanh(self.a(x)))
        return made


def network() -> Network:
    """With fixed weights."""
    torch.manual_seed(0)
    return Network()


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    """Random batches."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(9, 7, generator=generator), torch.randint(5, (9,), generator=generator))
        for _ in range(count)
    ]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[Any]) -> None:
    """Plain PyTorch."""
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def same(step: Any, model: nn.Module, tolerance: float = 2e-5) -> None:
    """Parameters agree. Adam divides by the root of small squares: rounding of a gradient near 0
    moves a weight by up to a share of the learning rate.
    """
    made = step.state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(made[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_steps_equal_torch(name: str, target: str) -> None:
    model, data = network(), batches(5)
    optimizer = OPTIMIZERS[name](model.parameters())
    step = quatrain.compile(
        model, nn.functional.cross_entropy, data[0], optimizer, recipe="fp32", target=target
    )
    for batch in data:
        step(*batch)
    train(model, optimizer, data)
    same(step, model)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_steps_go_on_from_what_torch_has_kept(name: str) -> None:
    model, data = network(), batches(6)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, data[:3])
    step = quatrain.compile(
        model, nn.functional.cross_entropy, data[0], optimizer, recipe="fp32", target="reference"
    )
    for batch in data[3:]:
        step(*batch)
    train(model, optimizer, data[3:])
    same(step, model)


def test_groups_and_schedules_are_read_at_every_step() -> None:
    model, data = network(), batches(4)
    groups: list[dict[str, Any]] = [
        {"params": model.a.parameters(), "lr": 0.02, "betas": (0.5, 0.9)},
        {"params": model.b.parameters(), "weight_decay": 0.3},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    other = copy.deepcopy(model)
    copied: list[dict[str, Any]] = [
        {"params": other.a.parameters()},
        {"params": other.b.parameters()},
    ]
    for to, group in zip(copied, groups, strict=True):
        to.update({k: v for k, v in group.items() if k != "params"})
    twin = torch.optim.AdamW(copied, lr=0.01)
    step = quatrain.compile(
        model, nn.functional.cross_entropy, data[0], optimizer, recipe="fp32", target="reference"
    )
    for i, batch in enumerate(data):
        for one in (optimizer, twin):
            one.param_groups[0]["lr"] = 0.02 / (i + 1)
            one.param_groups[1]["betas"] = (0.9 - 0.1 * i, 0.99)
        step(*batch)
        train(other, twin, [batch])
    same(step, other)


@pytest.mark.tvm
@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_clips_are_trained_by_the_model_s_optimizer(name: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 5)]
    model, data = nn.Sequential(*layers), batches(2)
    optimizer = OPTIMIZERS[name](model.parameters())
    steps = [
        quatrain.compile(
            model,
            nn.functional.cross_entropy,
            data[0],
            optimizer,
            recipe="ultra_low_4bit",
            target=target,
        )
        for target in ("reference", "cpu")
    ]
    for batch in data:
        for step in steps:
            step(*batch)
    clips = [k for k in steps[0].state if k.endswith(".clip")]
    assert clips
    for key in clips:
        assert steps[0].state[key] != 8.0
        # Sums of bf16 gradients in another order move a clip by a share of the learning rate.
        torch.testing.assert_close(
            steps[0].state[key], steps[1].state[key], rtol=1e-3, atol=1e-3, msg=key
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.LBFGS(p), "LBFGS; supported of torch.optim are SGD, Adam, AdamW"),
        (lambda p: torch.optim.SparseAdam(p), "Muon, and Lion of other packages"),
        (lambda p: torch.optim.RMSprop(p, differentiable=True), "has differentiable=True"),
    ],
)
def test_other_optimizers_are_refused(make: Make, message: str) -> None:
    model, (batch,) = network(), batches(1)
    with pytest.raises(CaptureError, match=message):
        quatrain.compile(
            model, nn.functional.cross_entropy, batch, make(model.parameters()), recipe="fp32"
        )


def test_an_optimizer_that_trained_only_some_parameters_is_refused() -> None:
    model, data = network(), batches(1)
    optimizer = torch.optim.Adam(model.parameters())
    model.a.requires_grad_(False)
    train(model, optimizer, data)
    model.a.requires_grad_(True)
    with pytest.raises(CaptureError, match="trained for 0 steps, others for 1"):
        quatrain.compile(model, nn.functional.cross_entropy, data[0], optimizer, recipe="fp32")


def test_a_changed_flag_is_refused() -> None:
    model, (batch,) = network(), batches(1)
    optimizer = torch.optim.AdamW(model.parameters())
    step = quatrain.compile(
        model, nn.functional.cross_entropy, batch, optimizer, recipe="fp32", target="reference"
    )
    optimizer.param_groups[0]["decoupled_weight_decay"] = False
    with pytest.raises(InputError, match="decoupled_weight_decay of parameter group 0 was True"):
        step(*batch)
