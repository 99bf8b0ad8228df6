"""Each kind of optimizer and its settings beside torch.optim: steps, schedules, states of before."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn, optim
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError, InputError
from quatrain.runtime.source import source_of

from ..cases.resumed import goes_on
from .test_optimizers import Network, batches, network, same, train

pytestmark = pytest.mark.torch
Make = Callable[[Any], optim.Optimizer]
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
DECAYED: dict[str, Any] = {"weight_decay": 0.02}
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


def compiled(model: nn.Module, optimizer: Any, **more: Any) -> Any:
    settings = {"recipe": "fp32", "target": "reference"} | more
    return quatrain.compile(model, cross_entropy, batches(1)[0], optimizer, **settings)


def twins(make: Make) -> tuple[Network, Network, optim.Optimizer, optim.Optimizer]:
    """Two networks alike, with an optimizer each."""
    model, other = network(), network()
    return model, other, make(model.parameters()), make(other.parameters())


# Kernels agree with the reference to the bit; one of them with a number beside each parameter.
EVERY = [
    *((name, "reference") for name in KINDS),
    pytest.param("nadam", "cpu", marks=pytest.mark.tvm),
]


@pytest.mark.parametrize(("name", "target"), EVERY)
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


@pytest.mark.parametrize("name", ["nadam", "asgd", "rprop", "adagrad"])
def test_accumulated_and_clipped_steps_equal_torch(name: str) -> None:
    model, other, mine, theirs = twins(KINDS[name])
    step = compiled(model, mine, accumulate=2, clip_norm=0.1, average=0.5)
    average = {k: torch.zeros_like(v) for k, v in other.state_dict().items()}
    for i, (x, y) in enumerate(batches(6)):
        step(x, y)
        (cross_entropy(other(x), y) / 2).backward()
        if i % 2 == 0:
            continue
        nn.utils.clip_grad_norm_(other.parameters(), 0.1)
        theirs.step()
        theirs.zero_grad()
        for key, weight in other.state_dict().items():
            average[key] = weight.clone() if i == 1 else (average[key] + weight) / 2
        same(step, other)
    made = step.state_dict(average=True)
    for key, wanted in average.items():
        torch.testing.assert_close(made[key], wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_step_that_is_not_applied_changes_nothing(target: str) -> None:
    model = network()
    step = compiled(model, KINDS["nadam"](model.parameters()), target=target)
    x, y = batches(1)[0]
    step(x, y)
    step.load_state({"b.weight": torch.full((5, 13), 3e38)})  # scores overflow
    before = step.state
    step(x, y)
    assert step.skipped == 1
    after = step.state
    assert {k for k in before if not torch.equal(before[k], after[k])} == {"skipped"}


@pytest.mark.parametrize("name", ["asgd", "amsgrad"])
def test_a_saved_step_goes_on_to_the_bit(name: str, tmp_path: Any) -> None:
    model, data = network(), batches(4)
    step = compiled(model, KINDS[name](model.parameters()))
    for batch in data[:2]:
        step(*batch)
    goes_on(step, data[2:], tmp_path)


def test_groups_choose_amsgrad_and_have_their_own_settings() -> None:
    model, other = network(), network()

    def made(m: Network) -> optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": m.a.parameters(), "amsgrad": True, "betas": (0.5, 0.3)},
            {"params": m.b.parameters(), "lr": 0.003},
        ]
        return optim.Adam(groups, lr=0.01)

    mine, theirs = made(model), made(other)
    step = compiled(model, mine)
    for batch in batches(5):
        step(*batch)
        train(other, theirs, [batch])
    same(step, other)
    assert {k.rpartition(".")[0] for k in step.state if k.endswith("max_exp_avg_sq")} == {
        "a.weight",
        "a.bias",
    }
    mine.param_groups[0]["amsgrad"] = False
    with pytest.raises(InputError, match="amsgrad of parameter group 0 was True when"):
        step(*batches(1)[0])


@pytest.mark.parametrize("name", ["adamax", "rprop", "adagrad"])
def test_rates_may_be_tensors(name: str) -> None:
    model, other, mine, theirs = twins(KINDS[name])
    mine.param_groups[0]["lr"] = torch.tensor(0.004)
    theirs.param_groups[0]["lr"] = 0.004
    step = compiled(model, mine)
    for batch in batches(2):
        step(*batch)
        train(other, theirs, [batch])
    same(step, other)


@pytest.mark.parametrize("kind", [optim.Adagrad, optim.NAdam, optim.Rprop])
def test_differentiable_is_refused(kind: Any) -> None:
    model = network()
    with pytest.raises(CaptureError, match="has differentiable=True; only differentiable=False"):
        compiled(model, kind(model.parameters(), differentiable=True))


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda p: optim.Rprop(p, etas=(0.5, 1.2)), {"etas": (0.5, "fast")}),
        (lambda p: optim.Adadelta(p), {"rho": None}),
    ],
)
def test_settings_that_are_no_numbers_are_refused(make: Make, setting: dict[str, Any]) -> None:
    model = network()
    optimizer = make(model.parameters())
    step = compiled(model, optimizer)
    optimizer.param_groups[0].update(setting)
    (name,) = setting
    with pytest.raises(InputError, match=f"^{name} of parameter group 0 of the optimizer is"):
        step(*batches(1)[0])


def test_a_file_from_before_groups_had_kinds_is_read() -> None:
    model = network()
    step = compiled(model, optim.Adam(model.parameters()))
    bundle = step.bundle()
    optimizer = json.loads(json.dumps(bundle.manifest["optimizer"]))
    for group in optimizer["groups"]:
        optimizer["kind"] = group.pop("kind")
    old = replace(bundle, manifest={**bundle.manifest, "optimizer": optimizer})
    assert source_of(old).optimizer == step.source.optimizer
