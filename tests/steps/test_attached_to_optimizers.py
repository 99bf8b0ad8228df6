"""Optimizers that are more than torch made them: subclasses, replaced methods, schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler

from ..cases.attached import Body, batch, made, plain, refused

pytestmark = pytest.mark.torch


class Named(SGD):
    """Changes nothing."""


class Doubled(Adam):
    """Overrides the step."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        return super().step(closure)


class Decaying(RMSprop):
    """Overrides what clears gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            group["lr"] *= 0.9
        super().zero_grad(set_to_none)


class Deep(Doubled):
    """A subclass of a subclass."""


@pytest.mark.parametrize(
    ("kind", "parent"), [(Named, "SGD"), (Doubled, "Adam"), (Decaying, "RMSprop"), (Deep, "Adam")]
)
def test_subclasses_are_refused(kind: Callable[..., Optimizer], parent: str) -> None:
    model = Body(plain)
    optimizer = kind(model.parameters(), lr=0.1)
    refused(model, rf"the optimizer is a \w+, and .* give torch\.optim\.{parent} itself", optimizer)


@pytest.mark.parametrize("name", ["step", "zero_grad"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_replaced_methods_are_refused(name: str, scheduled: bool) -> None:
    model = Body(plain)
    optimizer = AdamW(model.parameters())
    if scheduled:
        lr_scheduler.StepLR(optimizer, 1)
    setattr(optimizer, name, lambda *_: None)
    refused(model, rf"^{name} of the optimizer has been replaced", optimizer)


def test_a_replaced_method_of_a_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Body(plain)
    monkeypatch.setattr(SGD, "step", lambda *_: None)
    refused(model, r"^step of the optimizer has been replaced")


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_schedulers_are_followed() -> None:
    model, (x, y) = Body(plain), batch()
    sgd = SGD(model.parameters(), lr=0.1)
    schedulers = [lr_scheduler.StepLR(sgd, 1, gamma=0.5), lr_scheduler.LambdaLR(sgd, lambda _: 1)]
    step = made(model, sgd)
    step(x, y)
    schedulers[0].step()
    step(x, y)
    assert step.hyper["group0.lr"] == 0.05


@pytest.mark.parametrize("setting", ["differentiable"])
@pytest.mark.parametrize("kind", [SGD, Adam, RMSprop])
def test_settings_without_counterpart(kind: Any, setting: str) -> None:
    model = Body(plain)
    optimizer = kind(model.parameters(), lr=0.1, **{setting: True})
    refused(model, rf"has {setting}=True; only {setting}=False is supported", optimizer)


@pytest.mark.parametrize("setting", [{"foreach": True}, {"fused": True}, {"maximize": True}])
def test_settings_of_speed_change_nothing(setting: dict[str, bool]) -> None:
    model, (x, y) = Body(plain), batch()
    step = made(model, SGD(model.parameters(), lr=0.1, **setting))
    loss = [float(step(x, y)) for _ in range(2)]
    assert (loss[1] > loss[0]) == ("maximize" in setting)


def test_hooks_of_state_dict_run_where_it_is_called() -> None:
    model, seen = Body(plain), list[int]()
    adam = Adam(model.parameters())
    adam.register_state_dict_pre_hook(lambda _: seen.append(1))
    made(model, adam)(*batch())
    assert seen == []


def test_what_is_no_optimizer() -> None:
    scaler = torch.amp.GradScaler("cpu")
    refused(Body(plain), r"the optimizer is .*GradScaler; supported of torch\.optim", scaler)  # type: ignore[arg-type]
