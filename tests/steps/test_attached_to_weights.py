"""Parametrizations, pruning, kinds of tensors, and what ``state_dict`` of a model gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import weight_norm as old_weight_norm

import quatrain
from quatrain.compiler.errors import InputError

from ..cases.attached import SGD, Body, batch, made, plain, refused, same_as_eager

pytestmark = pytest.mark.torch


class Bounded(nn.Module):
    """A parametrization of a user."""

    def forward(self, w: Tensor) -> Tensor:
        return w.tanh()


def cached(m: Any, x: Tensor) -> Tensor:
    with parametrize.cached():
        return plain(m, x)


PARAMETRIZED: dict[str, Callable[[nn.Module], object]] = {
    "weight norm": parametrizations.weight_norm,
    "weight norm of all": lambda m: parametrizations.weight_norm(m, dim=-1),
    "weight norm of columns": lambda m: parametrizations.weight_norm(m, dim=1),
    "weight norm by a hook": old_weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by a hook": torch.nn.utils.spectral_norm,
    "one's own": lambda m: parametrize.register_parametrization(m, "weight", Bounded()),
    "of the bias": lambda m: parametrize.register_parametrization(m, "bias", Bounded()),
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.4),
}


def parametrized(kind: str, forward: Callable[..., Tensor] = plain) -> Body:
    torch.manual_seed(0)
    model = Body(forward)
    PARAMETRIZED[kind](model.a)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PARAMETRIZED)
def test_parametrizations_are_followed(kind: str) -> None:
    same_as_eager(parametrized(kind), parametrized(kind))


def test_parametrizations_that_are_cached() -> None:
    same_as_eager(parametrized("one's own", cached), parametrized("one's own", cached))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "one's own", "pruned"])
def test_a_parametrized_layer_is_a_layer(kind: str) -> None:
    model = parametrized(kind)
    sgd = SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(
        nn.Sequential(nn.Linear(6, 6), model, nn.Linear(4, 4)),
        nn.functional.cross_entropy,
        batch(),
        sgd,
        target="reference",
    )
    layers = {g.layer for g in step.report().gemms if max(g.bits) <= 8}
    assert layers == {"1.a", "1.b"}, "power iterations and norms are no layers"


def test_a_parametrization_without_counterpart() -> None:
    model = Body(plain)
    parametrizations.orthogonal(model.a)
    refused(model, "in layer 'a.parametrizations.weight.0' at .* is not supported")


class Marked(Tensor):
    """A kind of tensor of a user."""


def marked(m: Any) -> None:
    m.a.weight = nn.Parameter(torch.randn(6, 6).as_subclass(Marked))


def marked_buffer(m: nn.Module) -> None:
    m.mean = torch.zeros(6).as_subclass(Marked)


def lazy(m: nn.Module) -> None:
    m.a = nn.LazyLinear(6)


def of_inference(m: nn.Module) -> None:
    with torch.inference_mode():
        m.a = nn.Linear(6, 6)


TENSORS: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "subclass": (marked, r"^a\.weight is a Marked, no plain tensor"),
    "buffer": (marked_buffer, r"^mean is a Marked, no plain tensor"),
    "lazy": (lazy, r"^a\.weight is a UninitializedParameter.*run the model once"),
    "inference": (of_inference, r"^a\.weight was made in inference mode"),
    "double": (lambda m: m.double(), r"^a\.weight of the model is float64"),
    "half": (lambda m: m.half(), r"^a\.weight of the model is float16"),
    "meta": (lambda m: m.to("meta"), r"^a\.weight of the model is on meta"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_other_kinds_are_refused(kind: str) -> None:
    change, message = TENSORS[kind]
    model = Body(plain)
    change(model)
    refused(model, message)


def test_a_batch_of_inference_mode_is_refused() -> None:
    model = Body(plain)
    with torch.inference_mode():
        x, y = batch()
        x, y = x + 0, y + 0
    with pytest.raises(InputError, match="element 0 of the example was made in inference mode"):
        quatrain.compile(model, nn.functional.cross_entropy, (x, y), SGD(model.parameters(), 0.1))


def adds(module: nn.Module, state: dict[str, Any], prefix: str, _: object) -> None:
    state[prefix + "version"] = torch.ones(1)


def copies(module: nn.Module, state: dict[str, Any], prefix: str, _: object) -> None:
    state[prefix + "a.weight"] = state[prefix + "a.weight"].clone()


def renames(module: nn.Module, state: dict[str, Any], prefix: str, _: object) -> None:
    state[prefix + "first"] = state.pop(prefix + "a.weight")


class Extra(Body):
    """A model with state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"seen": 3}


@pytest.mark.parametrize(("hook", "key"), [(adds, "version"), (copies, "a.weight")])
def test_keys_that_no_parameter_is_behind_are_refused(hook: Any, key: str) -> None:
    model = Body(plain)
    model.register_state_dict_post_hook(hook)  # type: ignore[no-untyped-call]
    refused(model, rf"has {key}, which is no parameter")
    refused(nn.Sequential(model), rf"has 0\.{key}, which is no parameter")


def test_extra_state_is_refused() -> None:
    refused(Extra(plain), "has _extra_state, which is no parameter.*get_extra_state")


def test_keys_that_a_hook_renames_are_followed() -> None:
    model = Body(plain)
    model.register_state_dict_post_hook(renames)  # type: ignore[no-untyped-call]
    step = made(model)
    step(*batch())
    assert set(step.state_dict()) == set(model.state_dict())
    assert not torch.equal(step.state_dict()["first"], model.a.weight)


def test_hooks_of_loading_run_where_the_model_loads() -> None:
    body, seen = Body(plain), list[object]()
    model: Any = body
    model.register_load_state_dict_pre_hook(lambda *_: seen.append(1))
    model.register_load_state_dict_post_hook(lambda *_: seen.append(2))
    step = made(model)
    assert seen == []
    model.load_state_dict(step.state_dict())
    assert seen == [1, 2]
