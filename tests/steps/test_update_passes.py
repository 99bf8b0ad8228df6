"""Clipping, accumulation and averages beside the same in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import quatrain
from quatrain.compiler.errors import InputError, RecipeError
from quatrain.passes.recipe import load_recipe

from .test_optimizers import OPTIMIZERS, batches, network, same

TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
loss = nn.functional.cross_entropy


def compiled(model: nn.Module, name: str, target: str, **update: Any) -> Any:
    """A step of the network of ``test_optimizers``."""
    optimizer = OPTIMIZERS[name](model.parameters())
    (example,) = batches(1)
    return quatrain.compile(model, loss, example, optimizer, recipe="fp32", target=target, **update)


def bounded(by: Callable[[Any], object], name: str) -> nn.Module:
    """The network after four steps of PyTorch whose gradients are bounded."""
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    for x, y in batches(4):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        by(model.parameters())
        optimizer.step()
    return model


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("norm", [0.05, 100.0])
def test_clip_norm(norm: float, target: str) -> None:
    step = compiled(network(), "sgd", target, clip_norm=norm)
    for batch in batches(4):
        step(*batch)
    same(step, bounded(lambda p: clip_grad_norm_(p, norm), "sgd"))


@pytest.mark.parametrize("target", TARGETS)
def test_clip_value(target: str) -> None:
    step = compiled(network(), "rmsprop", target, clip_value=0.01)
    for batch in batches(4):
        step(*batch)
    same(step, bounded(lambda p: clip_grad_value_(p, 0.01), "rmsprop"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_accumulation(name: str, target: str) -> None:
    model = network()
    step = compiled(copy.deepcopy(model), name, target, accumulate=3, clip_norm=0.1)
    optimizer = OPTIMIZERS[name](model.parameters())
    for i, (x, y) in enumerate(batches(7)):
        step(x, y)
        (loss(model(x), y) / 3).backward()
        if i % 3 == 2:
            clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
        same(step, model)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_averages(accumulate: int, target: str) -> None:
    step = compiled(network(), "adam", target, average=0.9, accumulate=accumulate)
    average: dict[str, torch.Tensor] = {}
    for i, batch in enumerate(batches(6)):
        step(*batch)
        if i % accumulate != accumulate - 1:
            continue
        for name, weight in step.state_dict().items():
            old = average.get(name, weight)
            average[name] = old + (weight - old) * (1 - 0.9)
    made = step.state_dict(average=True)
    for name, tensor in average.items():
        torch.testing.assert_close(made[name], tensor, rtol=1e-6, atol=1e-7)


def test_an_average_that_joins_later_starts_from_the_weights() -> None:
    model, data = network(), batches(3)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    for x, y in data[:2]:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    step = quatrain.compile(
        model, loss, data[0], optimizer, recipe="fp32", target="reference", average=0.9
    )
    before = step.state_dict()
    step(*data[2])
    after, made = step.state_dict(), step.state_dict(average=True)
    for name, old in before.items():
        wanted = old + (after[name] - old) * (1 - 0.9)
        torch.testing.assert_close(made[name], wanted, rtol=1e-6, atol=1e-7)


def test_an_average_that_is_not_kept_is_refused() -> None:
    step = compiled(network(), "sgd", "reference")
    with pytest.raises(InputError, match="keeps no average of its weights"):
        step.state_dict(average=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("average_weights", {"decay": 1.5}, "decay=1.5 of average_weights does not lie between"),
        ("accumulate_gradients", {"batches": 0}, "batches=0 of accumulate_gradients is not at lea"),
        ("clip_gradients", {"norm": -1.0, "value": 0.0}, "of clip_gradients are below 0"),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    program = compiled(network(), "sgd", "reference").source.train
    with pytest.raises(RecipeError, match=message):
        load_recipe("fp32").followed_by(name, **options).apply(program)


@pytest.mark.tvm
def test_clips_and_scales_of_four_bits_with_all_of_it() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 5)]
    model, (example, *rest) = nn.Sequential(*layers), batches(4)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    step = quatrain.compile(
        model,
        loss,
        example,
        optimizer,
        recipe="ultra_low_4bit",
        accumulate=2,
        average=0.5,
        clip_norm=1.0,
    )
    (clip,) = (k for k in step.state if k.endswith(".clip"))
    step(*example)
    assert float(step.state[clip]) == 8.0
    for batch in rest:
        step(*batch)
    assert float(step.state[clip]) != 8.0
    assert int(step.state["step"]) == 4
