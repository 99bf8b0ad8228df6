"""A step under what follows tensors through a function: one sentence, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import mse_loss

import quatrain
from quatrain.compiler.errors import InputError
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch
X, Y = torch.ones(2, 4), torch.ones(2, 3)
Call = Callable[[Tensor], Any]


class Around(nn.Module):
    """A module that calls a function."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(x)


def fake(call: Call) -> Any:
    with FakeTensorMode() as mode:
        return call(mode.from_tensor(X))


FOLLOWED: dict[str, Callable[[Call], Any]] = {
    "vmap": lambda call: torch.vmap(call)(torch.ones(5, 2, 4)),
    "grad": lambda call: torch.func.grad(lambda x: call(x).sum())(X),
    "jacrev": lambda call: torch.func.jacrev(call)(X),
    "jvp": lambda call: torch.func.jvp(call, (X,), (X,)),
    "functionalize": lambda call: torch.func.functionalize(call)(X),
    "nested": lambda call: torch.vmap(torch.func.grad(lambda x: call(x).sum()))(
        torch.ones(5, 2, 4)
    ),
    "trace": lambda call: torch.jit.trace(call, (X,)),
    "export": lambda call: torch.export.export(Around(call), (X,)),
    "fake tensors": fake,
}


@pytest.fixture
def step() -> Step:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    return quatrain.compile(model, mse_loss, (X, Y), sgd, recipe="fp32", target="reference")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", FOLLOWED)
def test_tensors_that_torch_follows_are_refused(step: Step, how: str) -> None:
    before = step.state
    calls: list[Call] = [step.predict, lambda x: step(x, Y), lambda x: step.predict(x[:1])]
    for call in calls:
        with pytest.raises(
            InputError, match=r"is traced or transformed by torch.*outside"
        ) as found:
            FOLLOWED[how](call)
        assert "\n" not in str(found.value)
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())


def test_tensors_of_numbers_are_taken(step: Step) -> None:
    want = step.predict(X)
    own = type("Own", (Tensor,), {})
    assert torch.equal(step.predict(X.as_subclass(own)), want)
    assert torch.equal(torch.compile(step.predict, backend="eager")(X), want)
    with torch.inference_mode():
        assert torch.equal(step.predict(X.clone()), want)
