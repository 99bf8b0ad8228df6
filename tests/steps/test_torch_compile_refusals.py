"""What ``torch.compile(model, backend="quatrain")`` refuses and tells, each in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.optim import SGD  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import CaptureError, InputError, QuatrainError  # noqa: E402

from ..cases.by_quatrain import FLOATS, by_quatrain, chosen, perceptron  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """What torch keeps of models that are gone counts against its limit of recompiles."""
    torch._dynamo.reset()
    yield


def test_backward_runs_once() -> None:
    model = perceptron()
    loss = by_quatrain(model)(torch.randn(4, 7)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(InputError, match="a second time through one forward"):
        loss.backward()


def test_a_weight_that_is_changed_ahead_of_its_backward_is_told() -> None:
    model = perceptron()
    loss = by_quatrain(model)(torch.randn(4, 7)).sum()
    with torch.no_grad():
        model.get_parameter("2.weight").add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


class Broken(nn.Module):
    """A forward that prints."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        torch._dynamo.graph_break()
        y: Tensor = self.b(h)
        return y


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's
def test_a_graph_break_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    ours, eager, x = Broken(), Broken(), torch.randn(5, 3)
    with caplog.at_level(logging.WARNING, "quatrain"):
        by_quatrain(ours)(x).sum().backward()
    eager(x).sum().backward()
    torch.testing.assert_close(ours.a.weight.grad, eager.a.weight.grad, **FLOATS)
    said = quatrain.compiled(ours)
    assert said.graph_breaks == 1 and "test_torch_compile_refusals.py" in said.breaks[0]
    assert said.breaks[0] in caplog.text
    assert str(said).startswith("2 graphs, 2 programs, 1 graph breaks")
    with pytest.raises(CaptureError, match=r"no single graph: .* at tests/steps/test_torch_comp"):
        by_quatrain(Broken(), strict=True)(x)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "nope"}, "no recipe is called 'nope'"),
        ({"exemt": "none"}, "recipe fp32 has no option 'exemt'"),
        ({"target": "cpx"}, "did you mean 'cpu'"),
        ({"strict": 1}, "strict is 1; it is True or False"),
        ({"optimizer": 3}, "the option optimizer is 3; learned clips follow"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"recipe": "pfq"}, "watches the loss from step to step"),
        (
            {"recipe": "wageubn", "optimizer": SGD([torch.zeros(1)], lr=0.1)},
            r"the recipe makes the weights of layer '\w+' itself",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(options: dict[str, object], said: str) -> None:
    made = torch.compile(perceptron(), backend="quatrain", options=chosen() | options)
    with pytest.raises(QuatrainError, match=said) as raised:
        made(torch.randn(4, 7))
    assert "\n" not in str(raised.value)


class Writing(nn.Linear):
    """Changes what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.add_(1))


class Special(nn.Linear):
    """Calls what has no counterpart."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.special.bessel_j0(super().forward(x))
        return y


@pytest.mark.parametrize(
    ("model", "x", "said"),
    [
        (Writing(3, 5), torch.ones(2, 3), "writes into its input 0"),
        (Special(3, 5), torch.ones(2, 3), r"special_bessel_j0 in layer 'model' at tests/steps/tes"),
        (nn.Embedding(5, 3), torch.tensor([1, 7]), "x holds the row 7; rows are 0 .. 4"),
        (nn.Linear(3, 5).double(), torch.ones(2, 3).double(), "weight is float64"),
    ],
)
def test_what_no_program_takes_is_refused(model: nn.Module, x: Tensor, said: str) -> None:
    with pytest.raises(QuatrainError, match=said):
        by_quatrain(model)(x)


def test_a_state_of_another_recipe_is_refused() -> None:
    model = quatrain.attach(perceptron())
    model.load_state_dict({**model.state_dict(), "2.quatrain_clip": torch.ones(3)})
    with pytest.raises(InputError, match=r"2.clip is torch.float32\[\] by this recipe, and the"):
        by_quatrain(model, recipe="ultra_low_4bit")(torch.randn(4, 7))
