"""``step(x, y, outputs=True)``: what the model returned in the training forward of that step."""

from __future__ import annotations

import copy
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

pytestmark = pytest.mark.torch
CLASSES = 5


def network(*more: nn.Module) -> nn.Sequential:
    """Quantized between exempt layers, with statistics of the batch."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 9, 1),
        nn.ReLU(),
        *more,
        nn.Flatten(),
        nn.Linear(9 * 9, CLASSES),
    )


def batch(size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(size, 3, 5, 5, generator=generator)
    return x, torch.randint(CLASSES, (size,), generator=generator)


Compiled = tuple[Step, nn.Module]


def made(
    recipe: str = "fp32",
    target: str = "reference",
    model: nn.Module | None = None,
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy,
) -> Compiled:
    model = network() if model is None else model
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return quatrain.compile(model, loss, batch(), sgd, recipe=recipe, target=target), model


@pytest.mark.tvm
def test_they_are_those_of_eager_s_training_forward() -> None:
    """One step behind the other, each with the weights ahead of its update."""
    torch.manual_seed(0)
    layers = nn.BatchNorm1d(75), nn.Linear(75, CLASSES)
    step, model = made(target="cpu", model=nn.Sequential(nn.Flatten(), *layers))
    x, y = batch()
    for _ in range(2):
        model.load_state_dict(step.state_dict())
        loss, outputs = step(x, y, outputs=True)
        wanted = model(x)
        torch.testing.assert_close(outputs, wanted.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(loss, cross_entropy(wanted, y).detach(), atol=1e-5, rtol=1e-5)
        assert torch.equal(outputs.argmax(1) == y, wanted.argmax(1) == y)


@pytest.mark.parametrize(
    ("recipe", "target"),
    [
        pytest.param("ultra_low_4bit", "cpu", marks=pytest.mark.tvm),
        ("luq4", "reference"),
    ],
)
def test_the_state_goes_on_as_without(recipe: str, target: str) -> None:
    """To the bit, with draws of dropout and of rounding, also at another batch size."""
    plain, other = (made(recipe, target, network(nn.Dropout(0.3)))[0] for _ in range(2))
    for i, size in enumerate((7, 7) if target == "cpu" else (7, 4)):
        wanted = plain(*batch(size))
        if i == 1 and target == "cpu":
            loss, outputs = other(*batch(size)), None
        else:
            loss, outputs = other(*batch(size), outputs=True)
        assert torch.equal(loss, wanted)
        assert outputs is None or outputs.shape == (size, CLASSES)
        for name, value in plain.state.items():
            assert torch.equal(other.state[name], value), name


def test_without_them_nothing_more_is_compiled() -> None:
    step, _ = made()
    before = str(step.program)
    step(*batch())
    assert not step._variants and str(step.program) == before
    loss, first = step(*batch(), outputs=True)
    assert str(step.program) == before and len(step._variants) == 1
    kept = first.clone()
    step(*batch(), outputs=True)
    assert len(step._variants) == 1 and torch.equal(first, kept) and loss.shape == ()


class Returning(nn.Module):
    """Returns what a test makes of its layers."""

    def __init__(self, make: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.head, self.make = network(), nn.Linear(CLASSES, 3), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self, x)


FORMS: dict[str, Callable[[Any, Tensor], Any]] = {
    "tuple": lambda m, x: (h := m.body(x), h.relu()),
    "dict": lambda m, x: {"logits": m.body(x), "norm": m.body[1].running_var, "in": x},
}


@pytest.mark.parametrize("form", FORMS)
def test_their_form_is_that_of_predict(form: str) -> None:
    """Also of outputs that are an input or a buffer, and of a loss that writes into one."""

    def loss(outputs: Any, y: Tensor) -> Tensor:
        first = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        lost = cross_entropy(first, y)
        first.zero_()
        return lost

    model = Returning(FORMS[form])
    step, _ = made(model=model, loss=loss)
    x, y = batch()
    expected = copy.deepcopy(model)(x)
    parts = list(expected.values() if isinstance(expected, dict) else expected)
    _, outputs = step(x, y, outputs=True)
    predicted = step.predict(x)
    assert type(outputs) is type(predicted)
    given = outputs if isinstance(outputs, tuple) else (outputs,)
    assert len(given) == len(parts)
    for a, b in zip(given, parts, strict=True):
        torch.testing.assert_close(a, b.detach(), atol=1e-5, rtol=1e-5)


def test_a_step_that_is_not_applied_gives_them() -> None:
    step, _ = made(loss=lambda o, y: cross_entropy(o, y) / (y.float().sum() * 0))
    before = step.state_dict()
    loss, outputs = step(*batch(), outputs=True)
    assert not loss.isfinite() and outputs.isfinite().all() and step.skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in step.state_dict().items())


def test_what_has_none(tmp_path: Path) -> None:
    step, _ = made()
    x, y = batch()
    step.save(tmp_path / "net.qtn")
    with pytest.raises(InputError, match=r"^outputs=True compiles the step once more from its mod"):
        quatrain.load(tmp_path / "net.qtn")(x, y, outputs=True)
    with pytest.raises(InputError, match=r"^outputs is 1; it is True or False$"):
        step(x, y, outputs=1)  # type: ignore[call-overload]
    with pytest.raises(InputError):
        step(x[:, :2], y, outputs=True)
    assert not step._variants and torch.equal(step.state["0.weight"], step.state_dict()["0.weight"])

    unused = Returning(lambda m, x: (h := m.body(x), m.head(h)))
    step, _ = made(model=unused, loss=lambda o, y: cross_entropy(o[0], y))
    with pytest.raises(CaptureError, match=r"^outputs=True: an output needs 'head', which the los"):
        step(x, y, outputs=True)
