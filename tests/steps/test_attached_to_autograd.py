"""Regions of a forward, hooks on what autograd saves, and what changes what is differentiated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules import module as nn_module
from torch.utils.checkpoint import checkpoint

import quatrain
from quatrain.compiler.errors import CaptureError

from ..cases.attached import SGD, Body, batch, made, plain, refused, same_as_eager

pytestmark = pytest.mark.torch
hooks = torch.autograd.graph.saved_tensors_hooks


def inside(*contexts: Callable[[], Any]) -> Callable[[Any, Tensor], Tensor]:
    """A forward whose first layer runs in contexts."""

    def forward(m: Any, x: Tensor) -> Tensor:
        with contextlib.ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            h = torch.relu(m.a(x))
        made: Tensor = m.b(h * 1)
        return made

    return forward


REGIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "no_grad": inside(torch.no_grad),
    "inference_mode": lambda m, x: m.b(inside(torch.inference_mode)(m, x).clone() @ m.a.weight[:4]),
    "set_grad_enabled": inside(lambda: torch.set_grad_enabled(False)),
    "on again": inside(torch.no_grad, torch.enable_grad),
    "detach": lambda m, x: m.b(torch.relu(m.a(x)).detach()),
    "autocast that is off": inside(lambda: torch.autocast("cpu", enabled=False)),
    "save_on_cpu": inside(torch.autograd.graph.save_on_cpu),
    "checkpoint": lambda m, x: m.b(checkpoint(m.a, x, use_reentrant=False).relu()),
    "anomaly": inside(torch.autograd.detect_anomaly),
    "a gradient that is a number": lambda m, x: plain(m, x) + slope(m, x).detach()[:, :4],
    "requires_grad_ of what was computed": lambda m, x: m.b(m.a(x).requires_grad_()),
    "requires_grad_ as it is": lambda m, x: plain(m.requires_grad_(True), x),
}


def slope(m: Any, x: Tensor) -> Tensor:
    """The gradient of a layer's result by its input."""
    with torch.enable_grad():
        z = x.detach().requires_grad_(True)
        return torch.autograd.grad(m.a(z).square().sum(), z, create_graph=True)[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REGIONS)
def test_regions_that_are_followed(name: str) -> None:
    same_as_eager(Body(REGIONS[name]))


def test_a_reentrant_checkpoint_is_refused() -> None:
    refused(
        Body(lambda m, x: m.b(checkpoint(m.a, m.a(x), use_reentrant=True).relu())),
        "use_reentrant=True.*set use_reentrant=False",
    )


class Own(hooks):
    """A subclass of a user."""


@pytest.mark.parametrize("kind", [hooks, Own])
def test_hooks_on_saved_tensors_are_refused(kind: Any) -> None:
    forward = inside(lambda: kind(lambda t: t.half(), lambda t: t.float()))
    refused(Body(forward), r"^layer 'model' at .*test_attached_to_autograd\.py:\d+ sets hooks on")
    refused(nn.Sequential(Body(forward)), r"^layer '0' at .*autograd\.py:\d+ sets hooks on")
    made(Body(plain))  # torch's class is as it was


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_refused(dtype: torch.dtype) -> None:
    forward = inside(lambda: torch.autocast("cpu", dtype=dtype))
    refused(Body(forward), r"^layer 'a' at .*\.py:\d+ runs under torch\.autocast")
    with torch.autocast("cpu", dtype=dtype):
        refused(Body(plain), "runs under torch.autocast")


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients(off: Callable[[], Any]) -> None:
    """A step is to train, wherever ``compile`` stands."""
    model, (x, y) = Body(plain), batch()
    sgd = SGD(model.parameters(), lr=0.1)
    expected = made(model, sgd)
    with off():
        step = quatrain.compile(
            model, cross_entropy, (x, y), sgd, recipe="fp32", target="reference"
        )
        assert torch.equal(step(x, y), expected(x, y))
    assert step.report().torch_bytes == expected.report().torch_bytes


def frozen(m: Any, x: Tensor) -> Tensor:
    m.a.weight.requires_grad_(False)
    return plain(m, x)


def frozen_by_assignment(m: Any, x: Tensor) -> Tensor:
    m.a.weight.requires_grad = False
    return plain(m, x)


def frozen_by_the_module(m: Any, x: Tensor) -> Tensor:
    m.b.requires_grad_(False)
    return plain(m, x)


@pytest.mark.parametrize("forward", [frozen, frozen_by_assignment, frozen_by_the_module])
def test_requires_grad_that_the_forward_changes_is_refused(forward: Any) -> None:
    refused(Body(forward), r"^layer 'model' at .*autograd\.py:\d+ changes requires_grad of a param")


def test_gradients_that_are_kept_for_a_look() -> None:
    """``retain_grad`` is for the eye: a step gives no gradients, and trains as without."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.a(x))
        h.retain_grad()
        made: Tensor = m.b(h)
        return made

    x, y = batch()
    torch.manual_seed(0)
    model = Body(forward)
    first = made(model)(x, y)
    model.body = plain
    assert torch.equal(first, made(model)(x, y))


PENALTIES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a layer": lambda m, x: plain(m, x) + slope(m, x).square().mean(),
    "through a function": lambda m, x: plain(m, x) * (1 + slope(m, torch.tanh(x))[:, :4]),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_second_gradients_are_refused(name: str) -> None:
    refused(Body(PENALTIES[name]), r"^layer 'a(#2)?' is differentiated twice")


def test_second_gradients_of_a_convolution_are_refused() -> None:
    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                z = x.reshape(8, 1, 2, 3).repeat(1, 1, 2, 2).requires_grad_(True)
                y = torch.tanh(self.c(z))
                (g,) = torch.autograd.grad(y.sum(), z, create_graph=True)
            made: Tensor = y.mean((2, 3)) + g.mean()
            return made

    refused(Images(), r"^layer 'c' is differentiated twice")


def test_a_scaled_loss_is_refused() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    model, example = Body(plain), batch()

    def loss(out: Tensor, y: Tensor) -> Any:
        return scaler.scale(cross_entropy(out, y))

    with pytest.raises(CaptureError, match="uses a tensor that is no parameter"):
        quatrain.compile(model, loss, example, SGD(model.parameters(), 0.1), target="reference")


@pytest.mark.filterwarnings("ignore")
def test_functions_of_torch_compile_run_as_they_were_written() -> None:
    x, y = batch()
    torch.manual_seed(0)
    relu = torch.compile(lambda x: torch.relu(x))
    model = Body(lambda m, x: m.b(relu(m.a(x))))
    first = made(model)(x, y)
    model.body = plain
    assert torch.equal(first, made(model)(x, y))


@pytest.mark.parametrize("factor", [1.5, -2.0])
def test_global_hooks_of_modules_run_once(factor: float) -> None:
    handle = nn_module.register_module_forward_hook(lambda _, __, out: out * factor)
    try:
        same_as_eager(Body(plain))
    finally:
        handle.remove()
