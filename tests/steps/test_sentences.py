"""Mistakes of first days, and whether their sentences say what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import QuatrainError

pytestmark = pytest.mark.torch


class Net(nn.Module):
    """Two layers, and a function of them and of more parts."""

    def __init__(self, call: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.a, self.b, self.call = nn.Linear(8, 16), nn.Linear(16, 4), call
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x: Tensor) -> Tensor:
        return self.call(self, *x)


class Learned(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(out * self.w, y)


X, Y = torch.ones(8, 8), torch.arange(8) % 4
MLP: Callable[..., Tensor] = lambda m, x: m.b(torch.relu(m.a(x)))  # noqa: E731


def made(model: nn.Module | None = None, example: Any = (X, Y), **given: Any) -> Any:
    model = model or Net(MLP)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    options: dict[str, Any] = {"loss": cross_entropy, "optimizer": sgd, **given}
    return quatrain.compile(
        model=model, example=example, recipe="fp32", target="reference", **options
    )


def learned() -> None:
    model, loss = Net(MLP), Learned()
    made(model, loss=loss, optimizer=torch.optim.SGD([*model.parameters(), *loss.parameters()], 1))


def looked_up(**options: Any) -> None:
    made(Net(lambda m, i: m.b(m.a(m.e(i))), e=nn.Embedding(9, 8, **options)), (Y, Y))


SENTENCES: dict[str, tuple[Callable[[], object], str]] = {
    "one sample": (lambda: made().predict(X[0]), r"predict takes N samples, \[N, 8\], not \[8\]"),
    "an array": (
        lambda: made().predict(X.numpy()),
        "a sample is a ndarray; give predict torch tens",
    ),
    "NaN": (
        lambda: made().predict(X * torch.nan),
        "NaN or infinity, which spoils what is computed",
    ),
    "integers": (lambda: made(example=(X.long(), Y)), "the inputs are integers.*give float32"),
    "float classes": (
        lambda: made(example=(X, Y.float())),
        r"classes as int64, or probabilities of shape \[8, 4\]; the target is float32 of shape \[8\]",
    ),
    "nested inputs": (
        lambda: made(example=((X, X), Y)),
        r"is a tuple.*side by side, \(x1, x2, y\)",
    ),
    "a class": (lambda: made(optimizer=torch.optim.SGD), r"the class SGD; give SGD\(model\.param"),
    "a learned loss": (learned, "put what a loss learns into the model"),
    "max_norm": (lambda: looked_up(max_norm=1.0), "nn.Embedding is there without max_norm"),
    "sparse": (lambda: looked_up(sparse=True), "in its plain form, without the options"),
    "a list of layers": (
        lambda: made(Net(lambda m, x: m.b(m.all[0](m.a(x))), all=[nn.Linear(16, 16)])),
        r"\.py:\d+ uses a tensor.*nn\.ModuleList",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_says_what_would_be_right(name: str) -> None:
    mistake, message = SENTENCES[name]
    with pytest.raises(QuatrainError, match=message) as found:
        mistake()
    assert "\n" not in str(found.value)
