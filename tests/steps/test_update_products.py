"""Every optimizer with every pass over the update: each product is a program, and some are run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import quatrain
from quatrain.compiler.capture.program import Capture, capture
from quatrain.compiler.errors import RecipeError
from quatrain.passes.recipe import load_recipe
from quatrain.tools.update import Update

from .test_optimizers import batches, network, same, train

pytestmark = pytest.mark.torch
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "rmsprop_momentum": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9),
}
# Recipes that change the update, and what their passes are set to.
RECIPES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp16_amp": {},
    "hfp8": {"update_format": "fp16.169", "exempt": "none"},
    "ultra_low_4bit": {"exempt": "none"},
    "int4": {"exempt": "none"},
    "cpt": {},
}
SETTINGS: tuple[tuple[float, float, int, float], ...] = tuple(
    product((0.0, 1.0), (0.0, 0.1), (1, 3), (0.0, 0.9))
)
# Each two settings in all four ways: what two passes over the update make of each other.
PAIRS = (
    (0.0, 0.0, 1, 0.0),
    (0.0, 0.1, 3, 0.9),
    (1.0, 0.0, 3, 0.9),
    (1.0, 0.1, 1, 0.9),
    (1.0, 0.1, 3, 0.0),
)


@pytest.fixture
def updates(pytestconfig: pytest.Config) -> list[Update]:
    """Those of PAIRS, or the whole product."""
    settings = SETTINGS if pytestconfig.getoption("--whole") else PAIRS
    return [
        Update(clip_norm=norm, clip_value=value, accumulate=turns, average=decay)
        for norm, value, turns, decay in settings
    ]


def captured(name: str, steps: int = 0) -> Capture:
    """The network with an optimizer that PyTorch has let take ``steps`` steps."""
    model, data = network(), batches(2)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, data[:1] * steps)
    return capture(model, nn.functional.cross_entropy, data[0], optimizer)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_product_is_a_program(name: str, steps: int, updates: list[Update]) -> None:
    made = captured(name, steps)
    for recipe, options in RECIPES.items():
        for update in updates:
            wanted = update.after(load_recipe(recipe).with_options(options))
            program = wanted.apply(made.train)[-1][1]
            assert program.history[-1] == "skip_nonfinite"


def test_pairs_are_all_pairs() -> None:
    """Of every two of the four settings."""
    for i, j in combinations(range(4), 2):
        assert {(s[i], s[j]) for s in PAIRS} == {(s[i], s[j]) for s in SETTINGS}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_integer_update_is_that_of_sgd(name: str, updates: list[Update]) -> None:
    made, recipe = captured(name), load_recipe("wageubn")
    sgd = made.optimizer.groups[0].kind == "sgd"
    for update in updates:
        if sgd:
            assert update.after(recipe).apply(made.train)
            continue
        with pytest.raises(RecipeError, match=r"take torch\.optim\.SGD"):
            update.after(recipe).apply(made.train)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["dampening", "rmsprop", "rmsprop_momentum"])
def test_accumulated_steps_equal_torch(name: str, target: str) -> None:
    model, data = network(), batches(6)
    optimizer = OPTIMIZERS[name](model.parameters())
    step = quatrain.compile(
        model,
        nn.functional.cross_entropy,
        data[0],
        optimizer,
        recipe="fp32",
        target=target,
        accumulate=2,
        clip_value=0.05,
    )
    for i, (x, y) in enumerate(data):
        step(x, y)
        (nn.functional.cross_entropy(model(x), y) / 2).backward()
        if i % 2:
            nn.utils.clip_grad_value_(model.parameters(), 0.05)
            optimizer.step()
            optimizer.zero_grad()
        same(step, model)
