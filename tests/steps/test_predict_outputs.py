"""What ``predict`` gives for outputs of any kind: inputs, state, views, scalars, turned matrices."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError, InputError
from quatrain.runtime.step import Step

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
TARGETS = pytest.mark.parametrize("target", ["cpu", "reference"])
SIZE = 5


class Network(nn.Module):
    """A layer, a norm, and whatever a test makes of both."""

    def __init__(self, make: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm, self.make = nn.Linear(7, 5), nn.BatchNorm1d(7), make

    def forward(self, x: Tensor) -> Any:
        return self.layer(x), self.make(self, x)


def made(make: Callable[[Any, Tensor], Any], target: str) -> tuple[Step, Network]:
    model = Network(make)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(SIZE, 7), torch.arange(SIZE) % 5

    def loss(outputs: Any, y: Tensor) -> Tensor:
        return cross_entropy(outputs[0], y)

    step = quatrain.compile(model, loss, batch, sgd, recipe="fp32", target=target)
    return step, model.eval()


# A batch of 5 and 5 classes: turned and plain matrices have one shape at the compiled size.
OUTPUTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "input": lambda m, x: x,
    "view of the input": lambda m, x: x.unsqueeze(1),
    "turned input": lambda m, x: x.T,
    "weight": lambda m, x: m.layer.weight,
    "view of a weight": lambda m, x: m.layer.weight.unsqueeze(0),
    "buffer": lambda m, x: m.norm.running_var,
    "bias of as many numbers as samples": lambda m, x: m.layer.bias,
    "scalar": lambda m, x: m.layer(x).square().mean(),
    "turned": lambda m, x: m.layer(x).T,
    "twice the same": lambda m, x: m.layer(x),
    "sum over samples": lambda m, x: torch.relu(x).sum(0),
    "constant": lambda m, x: torch.ones_like(x),
}


@TARGETS
@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_equal_the_model_s(kind: str, target: str) -> None:
    """1e-6: sums of seven products of f32 in another order."""
    step, model = made(OUTPUTS[kind], target)
    before = step.state
    for count in (SIZE, 1, 3, 2 * SIZE + 1):
        x = torch.randn(count, 7)
        with torch.no_grad():
            for ours, theirs in zip(step.predict(x), model(x), strict=True):
                assert ours.shape == theirs.shape
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
                ours.fill_(7.0)
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())


@TARGETS
@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_stay_when_input_and_state_change(kind: str, target: str) -> None:
    step, _ = made(OUTPUTS[kind], target)
    x, y = torch.randn(SIZE, 7), torch.arange(SIZE) % 5
    outputs, state, weights = step.predict(x), step.state, step.state_dict()
    loss = step(x, y)
    held = [loss, *outputs, *state.values(), *weights.values()]
    before = [t.clone() for t in held]
    step.load_state({k: v + 1 for k, v in state.items() if v.is_floating_point()})
    x.fill_(7.0)
    step.predict(x)
    step(x, y)
    assert all(torch.equal(a, b) for a, b in zip(held, before, strict=True))


@TARGETS
def test_a_step_of_a_file_takes_the_samples_it_was_made_for(target: str, tmp_path: Path) -> None:
    step, _ = made(OUTPUTS["scalar"], target)
    step.save(tmp_path / "a.qtn")
    loaded, x = quatrain.load(tmp_path / "a.qtn"), torch.randn(SIZE, 7)
    assert torch.equal(loaded.predict(x)[1], step.predict(x)[1])
    for count in (0, 3, 2 * SIZE):
        with pytest.raises(InputError, match=rf"takes 5 samples, not {count}"):
            loaded.predict(torch.randn(count, 7))


def test_a_model_that_is_another_now_is_refused() -> None:
    step, model = made(OUTPUTS["scalar"], "reference")
    model.make = OUTPUTS["weight"]
    with pytest.raises(CaptureError, match="no longer what was compiled"):
        step.predict(torch.randn(3, 7))


def test_rows_need_no_model() -> None:
    step, model = made(OUTPUTS["twice the same"], "reference")
    x = torch.randn(2, 7)
    wanted = model(x)[0].detach()
    model.make = OUTPUTS["weight"]
    torch.testing.assert_close(step.predict(x)[0], wanted, rtol=1e-6, atol=1e-6)


class Named(OrderedDict[str, Any]):
    """As transformers returns outputs: a dictionary with attributes, and a cache in it."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class WithCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Named:
        made = self.layer(x)
        return Named(logits=made, cache=[made, None], pooled=made.mean(1), hidden=(made,))


def test_outputs_of_a_dictionary_are_its_tensors_and_the_loss_gets_it_whole() -> None:
    model, x, y = WithCache(), torch.randn(5, 4), torch.randint(3, (5,))

    def loss(output: Named, target: Tensor) -> Tensor:
        return cross_entropy(output.logits + output.hidden[0] - output["pooled"][:, None], target)

    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    step = quatrain.compile(model, loss, (x, y), sgd, recipe="fp32", target="reference")
    torch.testing.assert_close(step(x, y), loss(model(x), y).detach())
    logits, pooled = step.predict(x)
    torch.testing.assert_close(logits, model(x).logits.detach())
    torch.testing.assert_close(pooled, model(x).pooled.detach())
