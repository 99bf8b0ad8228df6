"""What is counted: steps of the program, of an optimizer that had stepped before, of a momentum."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import InputError
from quatrain.compiler.ir import OPTIMIZER_STEP, STEP

from . import test_gates
from .test_optimizers import OPTIMIZERS, Network, batches, network, same, train

pytestmark = pytest.mark.torch
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
EARLIER = 7


def compiled(model: nn.Module, optimizer: torch.optim.Optimizer, **more: Any) -> Any:
    (example,) = batches(1)
    settings = {"recipe": "fp32", "target": "reference"} | more
    return quatrain.compile(model, cross_entropy, example, optimizer, **settings)


def stepped(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network after some steps of PyTorch."""
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, batches(EARLIER))
    return model, optimizer


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "adamw", "rmsprop", "rmsprop_plain"])
def test_turns_are_those_of_the_program(name: str, target: str) -> None:
    model, optimizer = stepped(name)
    optimizer.zero_grad()
    step = compiled(model, optimizer, target=target, accumulate=4)
    assert int(step.state[STEP]) == 0
    for i, (x, y) in enumerate(batches(9)):
        step(x, y)
        (cross_entropy(model(x), y) / 4).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        same(step, model)
    # SGD and RMSprop of torch count differently; the number of updates since is 2 for all.
    count = {"sgd": 1, "nesterov": 1}.get(name, EARLIER)
    assert int(step.state[OPTIMIZER_STEP]) == count + 2


@pytest.mark.parametrize("target", TARGETS)
def test_a_saved_step_keeps_both_counts(target: str, tmp_path: Any) -> None:
    model, optimizer = stepped("adam")
    step = compiled(model, optimizer, target=target, accumulate=2)
    data = batches(6)
    for batch in data[:3]:
        step(*batch)
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn", target=target)
    for batch in data[3:]:
        assert torch.equal(step(*batch), again(*batch))
    for key, value in step.state.items():
        assert torch.equal(value, again.state[key]), key
    assert (int(again.state[STEP]), int(again.state[OPTIMIZER_STEP])) == (6, EARLIER + 3)


def test_schedules_begin_with_the_program() -> None:
    options = {"steps": 6, "cycles": 1}
    found = []
    fresh = network()
    for model, optimizer in (
        stepped("adam"),
        (fresh, OPTIMIZERS["adam"](fresh.parameters())),
    ):
        step = compiled(model, optimizer, recipe="cpt", options=options)
        bits = []
        for batch in batches(6):
            step(*batch)
            bits.append(int(step.state["schedule.bits"]))
        found.append(bits)
    assert found[0] == found[1] and found[0][0] == 3 and found[0][-1] == 8


@pytest.mark.parametrize("recipe", ["dfq", "fractrain"])
def test_gates_are_drawn_in_the_first_step_of_the_program(recipe: str) -> None:
    torch.manual_seed(0)
    model = test_gates.Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = test_gates.batch()
    for _ in range(2):
        cross_entropy(model(x), y).backward()
        optimizer.step()
    step = quatrain.compile(
        model, cross_entropy, (x, y), optimizer, recipe=recipe, target="reference"
    )
    step(x, y)
    weights = [v for k, v in step.state.items() if k.startswith("gate.") and k.endswith(".w1")]
    assert weights and all(v.abs().min() > 0 for v in weights)


def test_an_average_of_accumulated_steps_joins_later() -> None:
    model, optimizer = stepped("adamw")
    step = compiled(model, optimizer, accumulate=2, average=0.9)
    before = step.state_dict()
    for batch in batches(2):
        step(*batch)
    after, made = step.state_dict(), step.state_dict(average=True)
    for name, old in before.items():
        wanted = old + (after[name] - old) * (1 - 0.9)
        torch.testing.assert_close(made[name], wanted, rtol=1e-6, atol=1e-7)


SEQUENCES = {
    "late": (0.0, 0.0, 0.0, 0.9, 0.9, 0.9),
    "pause": (0.9, 0.9, 0.0, 0.0, 0.9, 0.9),
    "again": (0.0, 0.9, 0.0, 0.9, 0.0, 0.5),
}
MOMENTA: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-2),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.1, dampening=0.4),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5),
}


def set_momentum(optimizers: tuple[torch.optim.Optimizer, ...], momentum: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["momentum"] = momentum


def twins(name: str, **more: Any) -> tuple[Any, nn.Module, tuple[torch.optim.Optimizer, ...]]:
    """A step, a model that PyTorch trains, and the optimizers of both."""
    model, other = network(), network()
    optimizers = (MOMENTA[name](model.parameters()), MOMENTA[name](other.parameters()))
    return compiled(model, optimizers[0], **more), other, optimizers


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("name", MOMENTA)
def test_momenta_that_come_and_go_equal_torch(name: str, sequence: str, target: str) -> None:
    momenta: tuple[float, ...] = SEQUENCES[sequence]
    if name == "rmsprop" and not momenta[0]:
        momenta = momenta[momenta.index(max(momenta)) :]  # torch makes the buffer at first or never
    step, other, optimizers = twins(name, target=target)
    for momentum, batch in zip(momenta, batches(len(momenta)), strict=True):
        set_momentum(optimizers, momentum)
        step(*batch)
        train(other, optimizers[1], [batch])
        same(step, other)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MOMENTA)
def test_a_buffer_stays_while_there_is_no_momentum(name: str, target: str) -> None:
    step, _, optimizers = twins(name, target=target)
    data = batches(4)
    set_momentum(optimizers, 0.9)
    step(*data[0])
    before = {k: v for k, v in step.state.items() if k.endswith(".momentum")}
    set_momentum(optimizers, 0.0)
    for batch in data[1:]:
        step(*batch)
    assert before and all(torch.equal(v, step.state[k]) for k, v in before.items())


@pytest.mark.parametrize("target", TARGETS)
def test_dampening_of_accumulated_steps_begins_with_the_buffer(target: str) -> None:
    """The momentum comes in the middle of a turn; torch sees it at the end."""
    step, other, optimizers = twins("dampening", target=target, accumulate=2)
    momenta = (0.0, 0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9)
    for i, (momentum, (x, y)) in enumerate(zip(momenta, batches(8), strict=True)):
        set_momentum(optimizers, momentum)
        step(x, y)
        (cross_entropy(other(x), y) / 2).backward()
        if i % 2:
            optimizers[1].step()
            optimizers[1].zero_grad()
        same(step, other)


def test_groups_have_buffers_of_their_own() -> None:
    model, other = network(), network()

    def made(m: Network) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": m.a.parameters(), "momentum": 0.9},
            {"params": m.b.parameters()},
        ]
        return torch.optim.SGD(groups, lr=0.1, dampening=0.3)

    optimizers = made(model), made(other)
    step = compiled(model, optimizers[0])
    for i, batch in enumerate(batches(5)):
        for optimizer in optimizers:
            optimizer.param_groups[1]["momentum"] = 0.5 if i > 1 else 0.0
        step(*batch)
        train(other, optimizers[1], [batch])
        same(step, other)


def test_momenta_of_before_go_on_with_dampening() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    train(model, optimizer, batches(2))
    step, other = compiled(model, optimizer), copy.deepcopy(model)
    twin = OPTIMIZERS["sgd"](other.parameters())
    twin.load_state_dict(optimizer.state_dict())
    for momentum, batch in zip((0.0, 0.9, 0.9), batches(3), strict=True):
        set_momentum((optimizer, twin), momentum)
        step(*batch)
        train(other, twin, [batch])
        same(step, other)


def test_dampening_of_a_buffer_that_nothing_counts_is_refused() -> None:
    step, _, optimizers = twins("plain")
    optimizers[0].param_groups[0].update(momentum=0.9, dampening=0.5)
    with pytest.raises(InputError, match="dampening of parameter group 0 was 0"):
        step(*batches(1)[0])
