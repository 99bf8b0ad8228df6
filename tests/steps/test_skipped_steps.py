"""Steps that are not applied: hostile gradients behind a finite loss, what reacts and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

import quatrain  # noqa: E402
from quatrain.passes.recipe import Recipe  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402
from . import test_step  # noqa: E402

pytestmark = pytest.mark.torch
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))
RECIPES = ("fp32", "ultra_low_4bit")
SCALES = {"2.grad_scale", "4.grad_scale"}


class Times(nn.Module):
    """A constant factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """x times the factor."""
        return x * self.factor


def network(factor: float = 1e30) -> nn.Sequential:
    """Layers 2 and 4 are quantized; gradients are larger by ``factor`` behind the latter."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(7, 13, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(13, 8, 3),
        Times(1 / factor),
        Times(factor),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def loss(o: Tensor, y: Tensor) -> Tensor:
    """Finite for all finite y; where y is 1 the gradient of the root is infinity times 0."""
    return (o * y).mean() + (o * (y - 1)).square().sum().sqrt()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, 9, 9, generator=generator)
    return x, torch.randn(4, 5, generator=generator)


# What |dY| of layer 4 is, for all targets of that number.
HOSTILE = {"nan": 1.0, "inf": 1e13}


def hostile(kind: str) -> tuple[Tensor, Tensor]:
    x, y = batch(9)
    return x, torch.full_like(y, HOSTILE[kind])


def compiled(recipe: str | Recipe, target: str, factor: float = 1e30, **more: Any) -> Step:
    model = network(factor)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with captured_once(("test_skipped_steps", factor)):
        return quatrain.compile(
            model, loss, batch(0), optimizer, recipe=recipe, target=target, **more
        )


def changed(step: Step, before: dict[str, Tensor]) -> set[str]:
    """The names of states with other bytes."""
    after = step.state
    return {k for k, v in before.items() if v.numpy().tobytes() != after[k].numpy().tobytes()}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_gradient_that_is_not_finite_is_not_applied(kind: str, recipe: str, target: str) -> None:
    step = compiled(recipe, target)
    step(*batch(0))
    before = step.state
    assert torch.isfinite(step(*hostile(kind)))
    assert step.skipped == int(step.state["skipped"]) == 1
    assert changed(step, before) - SCALES == {"skipped"}
    step(*batch(1))
    assert (step.skipped, int(step.state["step"])) == (1, 2)
    assert all(torch.isfinite(v).all() for v in step.state.values())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("kind", "factor"), [("nan", 1.0), ("inf", 0.5)])
def test_an_overflow_halves_the_scale_of_its_layer(kind: str, factor: float, target: str) -> None:
    step = compiled("ultra_low_4bit", target)
    step(*batch(0))
    before = float(step.state["4.grad_scale"])
    for times in (1, 2):
        step(*hostile(kind))
        assert float(step.state["4.grad_scale"]) == before * factor**times
    assert step.skipped == 2


def test_a_scale_that_no_step_has_set_waits_for_one_that_is_applied() -> None:
    step, other = (compiled("ultra_low_4bit", "reference") for _ in range(2))
    step(*hostile("inf"))
    assert float(step.state["4.grad_scale"]) == 0
    for s in (step, other):
        s(*batch(0))
    assert changed(step, other.state) == {"skipped"}


@pytest.mark.parametrize(
    ("options", "factor"), [({"gradscale": "instant"}, 1e30), ({"carrier": "f16"}, 16.0)]
)
def test_other_rules_and_carriers(options: dict[str, object], factor: float) -> None:
    step = compiled("ultra_low_4bit", "reference", factor, options=options)
    step(*batch(0))
    assert step.skipped == 0
    before = step.state
    step(*hostile("inf"))
    assert step.skipped == 1 and changed(step, before) - SCALES == {"skipped"}


def test_a_scaled_gradient_that_overflows_f16_is_no_reason() -> None:
    """It saturates, the scale is halved, and the step counts: the gradient itself is finite."""
    options = {"carrier": "f16", "fp8_on": "4"}
    step = compiled("ultra_low_4bit", "reference", 16.0, options=options)
    step(*batch(0))
    step.load_state({"4.grad_scale": torch.tensor(2.0**40)})
    step(*batch(1))
    assert step.skipped == 0
    assert float(step.state["4.grad_scale"]) == 2.0**39


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "update", [{}, {"accumulate": 2, "average": 0.9}, {"clip_norm": 1.0}, {"clip_value": 0.1}]
)
def test_the_others_go_on_as_if_the_step_had_not_been(update: dict[str, Any], target: str) -> None:
    with_it, without = (compiled("fp32", target, **update) for _ in range(2))
    for seed in range(4):
        if seed in (1, 2):
            with_it(*hostile("nan"))
            with_it(*hostile("inf"))
        with_it(*batch(seed))
        without(*batch(seed))
    assert with_it.skipped == 4
    assert changed(with_it, without.state) == {"skipped"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_statistics_that_would_overflow_are_not_kept(recipe: str, target: str) -> None:
    """Finite data whose variance is beyond f32: batch norm makes 0 of it, and the loss is fine."""
    step = test_step.compiled(recipe, target)
    before = step.state
    x, y = test_step.batch()
    assert torch.isfinite(step(x * 1e25, y))
    assert step.skipped == 1 and changed(step, before) == {"skipped"}
    assert torch.isfinite(step.predict(x)).all()


def test_the_count_is_saved(tmp_path: Path) -> None:
    step = compiled("fp32", "reference")
    step(*hostile("nan"))
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    assert again.skipped == 1 and again.ir() == step.ir()


def test_batches_of_another_size_share_the_count() -> None:
    step = compiled("fp32", "reference")
    for size in (4, 3, 2):
        step(*(t[:size] for t in hostile("nan")))
    assert step.skipped == 3


def test_every_training_step_looks_once_and_no_evaluation_does() -> None:
    step = compiled("fp32", "reference")
    for s in (step, compiled(step.source.recipe, "reference")):
        assert s.passes.count("skip_nonfinite") == 1 and s.passes[-1] == "skip_nonfinite"
    trained, evaluated = (
        step.source.recipe.apply(p)[-1][1] for p in (step.source.train, step.source.evaluation)
    )
    assert [op.kind for _, op in trained.ops()].count("tally") == 1
    assert "tally" not in {op.kind for _, op in evaluated.ops()}
