"""What a step predicts of a sample is of that sample alone, for every recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

import quatrain
from quatrain.runtime.evaluation import Predictor
from quatrain.runtime.step import Step
from quatrain.targets.plan.pool import HostMemory

from ..cases.captured import captured_once

pytestmark = pytest.mark.torch
TARGETS = ("reference", pytest.param("cpu", marks=[pytest.mark.tvm, pytest.mark.share(2)]))
SIZES = (0.0, 1e-4, 30.0, 1e4)


class Block(nn.Module):
    """A residual block, which the gates of some recipes look for."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm2(self.conv2(relu(self.norm1(self.conv1(x))))) + x)


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, 1, 1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        Block(7),
        Block(7),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(7, 5),
    )


def vectors() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5)
    )


class Attention(nn.Module):
    """Products of activations with each other, the mean over all places, scores."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.scores = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        share = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), 2)
        made: Tensor = self.scores((share @ self.v(x)).mean(1))
        return made


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "images": (images, (4, 3, 6, 6)),
    "vectors": (vectors, (4, 8)),
    "attention": (Attention, (4, 3, 8)),
}
CASES = [
    (recipe, name)
    for recipe in quatrain.recipes()
    for name in NETWORKS
    if name == "images" or recipe not in ("dfq", "fractrain")
]
OPTIONS: tuple[tuple[str, dict[str, object]], ...] = (
    ("dfp16", {"bits": 8}),
    ("wageubn", {"activations": "wide", "activation_gradient": False}),
    ("s2fp8", {"s2fp8_results": "weight_gradients"}),
    ("sbm8", {"range_bn_bits": 0, "bits": 4}),
    ("cpt", {"base": "int4", "low": 2, "high": 4}),
    ("luq4", {"luq_act_range": "double"}),
    ("pact_sawb", {"bits": 2}),
)


@cache
def trained(recipe: str, name: str, **options: Any) -> tuple[Step, Tensor]:
    """A step after three batches on the reference, and one more batch."""
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model, generator = make(), torch.Generator().manual_seed(1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    batches = [torch.randn(shape, generator=generator) for _ in range(4)]
    y = torch.randint(5, shape[:1], generator=generator)
    if recipe not in ("bf16", "fp32", "fp16_amp"):
        options = {"exempt": "none"} | options
    with captured_once(("test_predicts_alone", name)):
        step = quatrain.compile(
            *(model, cross_entropy, (batches[0], y), sgd),
            recipe=recipe,
            options=options,
            target="reference",
        )
    for x in batches[:3]:
        step(x, y)
    return step, batches[3]


def on(target: str, step: Step) -> Callable[[Tensor], Tensor]:
    """How ``step`` predicts, by the kernels of another target too: those of its evaluation alone."""
    if target == step.source.target:
        return step.predict
    source, state = replace(step.source, target=target), step._state
    predictor = Predictor(source, step.options, state.layout, HostMemory(), None)
    return lambda x: predictor.run((x,), state.old)[0]


def alone(predict: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Nothing that stands in for sample 3 changes the others."""
    wanted = predict(x)[:3]
    assert wanted.std() > 0 and torch.isfinite(wanted).all()
    for size in SIZES:
        other = x.clone()
        other[3] *= size
        assert torch.equal(predict(other)[:3], wanted), size
    assert torch.equal(predict(x[:3]), wanted)


@pytest.mark.parametrize(("recipe", "name"), CASES)
def test_the_others_do_not_matter(recipe: str, name: str) -> None:
    step, x = trained(recipe, name)
    alone(step.predict, x)


@pytest.mark.tvm
@pytest.mark.parametrize("recipe", quatrain.recipes())
def test_nor_do_they_to_kernels(recipe: str) -> None:
    step, x = trained(recipe, "images")
    alone(on("cpu", step), x)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("recipe", "options"), OPTIONS)
def test_nor_do_they_with_options(recipe: str, options: dict[str, object], target: str) -> None:
    step, x = trained(recipe, "images", **options)
    alone(on(target, step), x)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_step_starts_a_running_magnitude(target: str) -> None:
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(8, 5)), torch.randn(3, 4, 8), torch.randint(5, (4,))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(
        model, cross_entropy, (x[0], y), sgd, recipe="dfp16", target=target, accumulate=2
    )
    assert float(step.state["0.x.largest"]) == 8.0
    found = 0.0
    for i, batch in enumerate(x):
        step(batch, y)
        now = float(batch.abs().max())
        found = 0.9 * found + 0.1 * now if i else now
        # Three roundings of f32.
        assert float(step.state["0.x.largest"]) == pytest.approx(found, rel=1e-6)
    step(x[0], torch.full_like(y, -100))  # no label, no loss: not applied
    assert step.skipped == 1 and float(step.state["0.x.largest"]) == pytest.approx(found, rel=1e-6)


def test_an_optimizer_of_before_starts_it_as_well() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(8, 5)), torch.randn(4, 8), torch.randint(5, (4,))
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    cross_entropy(model(x), y).backward()
    adam.step()
    step = quatrain.compile(model, cross_entropy, (x, y), adam, recipe="dfp16", target="reference")
    step(x, y)
    assert float(step.state["0.x.largest"]) == float(x.abs().max())
