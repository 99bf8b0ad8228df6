"""Each kind of optimizer and its settings beside torch.optim: steps, schedules, states of before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from torch import nn, optim
from torch.nn.functional import cross_entropy

import quatrain

from .test_optimizers import Network, batches, network, same, train

pytestmark = pytest.mark.torch
Make = Callable[[Any], optim.Optimizer]
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
DECAYED = {"weight_decay": 0.02}
KINDS: dict[str, Make] = {
    "adagrad": lambda p: optim.Adagrad(
        p, lr=0.02, lr_decay=0.1, initial_accumulator_value=0.03, **DECAYED
    ),
    "adagrad_maximize": lambda p: optim.Adagrad(p, lr=0.02, eps=1e-6, maximize=True, foreach=True),
    "adadelta": lambda p: optim.Adadelta(p, lr=0.5, rho=0.8, eps=1e-5, **DECAYED),
    "adadelta_maximize": lambda p: optim.Adadelta(p, maximize=True),
    "nadam": lambda p: optim.NAdam(p, lr=0.01, betas=(0.8, 0.99), momentum_decay=0.1, **DECAYED),
    "nadamw": lambda p: optim.NAdam(
        p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, maximize=True
    ),
    "radam": lambda p: optim.RAdam(p, lr=0.01, betas=(0.8, 0.9), **DECAYED),
    "radamw": lambda p: optim.RAdam(
        p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, maximize=True
    ),
    "adamax": lambda p: optim.Adamax(p, lr=0.01, betas=(0.8, 0.9), **DECAYED),
    "adamax_maximize": lambda p: optim.Adamax(p, lr=0.01, eps=1e-6, maximize=True),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.5), amsgrad=True, **DECAYED),
    "amsgradw": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True, maximize=True),
    "centered": lambda p: optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.5, **DECAYED),
    "centered_plain": lambda p: optim.RMSprop(p, lr=1e-3, alpha=0.9, centered=True, maximize=True),
    "asgd": lambda p: optim.ASGD(p, lr=0.05, lambd=0.1, alpha=0.6, t0=2, **DECAYED),
    "asgd_maximize": lambda p: optim.ASGD(p, lr=0.05, maximize=True),
    "rprop": lambda p: optim.Rprop(p, lr=1e-3, etas=(0.4, 1.3), step_sizes=(5e-4, 1.5e-3)),
    "rprop_maximize": lambda p: optim.Rprop(p, lr=1e-3, maximize=True),
}


def compiled(model: nn.Module, optimizer: optim.Optimizer, **more: Any) -> Any:
    settings = {"recipe": "fp32", "target": "reference"} | more
    return quatrain.compile(model, cross_entropy, batches(1)[0], optimizer, **settings)


def twins(make: Make) -> tuple[Network, Network, optim.Optimizer, optim.Optimizer]:
    """Two networks alike, with an optimizer each."""
    model, other = network(), network()
    return model, other, make(model.parameters()), make(other.parameters())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
def test_steps_equal_torch(name: str, target: str) -> None:
    """Rates and whatever else a scheduler may set change in between."""
    model, other, mine, theirs = twins(KINDS[name])
    step = compiled(model, mine, target=target)
    for i, batch in enumerate(batches(7)):
        for group in (mine.param_groups[0], theirs.param_groups[0]):
            group["lr"] *= 0.9 if i else 1.0
            if i == 3 and "betas" in group:
                group["betas"] = (0.7, group["betas"][1])
        step(*batch)
        train(other, theirs, [batch])
    same(step, other)


@pytest.mark.parametrize("name", [n for n in KINDS if "_" not in n and not n.endswith("w")])
def test_steps_go_on_from_what_torch_has_kept(name: str) -> None:
    model, data = network(), batches(5)
    optimizer = KINDS[name](model.parameters())
    train(model, optimizer, data[:2])
    other = copy.deepcopy(model)
    theirs = KINDS[name](other.parameters())
    theirs.load_state_dict(optimizer.state_dict())
    step = compiled(model, optimizer)
    for batch in data[2:]:
        step(*batch)
    train(other, theirs, data[2:])
    same(step, other)
