"""Networks written in ways of their own: several inputs, ties, detours of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain
from quatrain.compiler.errors import InputError

CLOSE = 2e-6  # see test_ops_beside_torch


class TwoInTwoOut(nn.Module):
    """A network of two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 5), nn.Linear(3, 5)

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Sum and product."""
        one, two = self.a(x), self.b(z)
        return one + two, one * two


class Tied(nn.Module):
    """A small language model whose head is its table, with learned places and an unused layer."""

    def __init__(self, tokens: int = 11, width: int = 8, length: int = 5) -> None:
        super().__init__()
        self.table, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.body = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.table.weight
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the next token."""
        h = self.table(x) + self.place(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        made: Tensor = self.head(self.body(h, mask))
        return made


class Placed(nn.Module):
    """A table read at integers that are counted from, to and by any numbers."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.table, self.numbers = nn.Embedding(10, 7), numbers

    def forward(self, x: Tensor) -> Tensor:
        """The rows on top of the input."""
        made: Tensor = x + self.table(torch.arange(*self.numbers, dtype=torch.int64))
        return made


class Straight(torch.autograd.Function):
    """Rounding to signs whose gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The sign."""
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """As it comes."""
        return grads[0]


class Detours(nn.Module):
    """Parts without gradient, a shared layer, a frozen one, a custom gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.frozen = nn.Linear(7, 7), nn.Linear(7, 7)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        h = torch.tanh(self.shared(x))
        with torch.no_grad():
            scale = self.frozen(h).abs().amax()
        h = self.shared(h / scale) + self.frozen(h).detach()
        made: Tensor = Straight.apply(h) * h[:, :1]  # type: ignore[no-untyped-call]
        return made


class Masked(nn.Module):
    """A linear layer some of whose inputs a buffer of truth values hides."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 5)
        self.register_buffer("hidden", torch.arange(7) % 3 == 0)
        self.hidden: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        made: Tensor = self.fc(x.masked_fill(self.hidden, -1.0) * (~self.hidden).float())
        return made


def both(out: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """A loss of two outputs."""
    return F.mse_loss(out[0], y) + out[1].square().mean()


def sequence(out: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of every place."""
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


Case = tuple[nn.Module, Callable[..., Tensor], tuple[Tensor, ...]]


def cases() -> dict[str, Case]:
    """Networks with losses and batches."""
    torch.manual_seed(0)
    tokens = torch.randint(11, (4, 5))
    return {
        "two": (TwoInTwoOut(), both, (torch.randn(4, 7), torch.randn(4, 3), torch.randn(4, 5))),
        "tied": (Tied(), sequence, (tokens, tokens.roll(1, 1))),
        "masked": (Masked(), F.mse_loss, (torch.randn(4, 7), torch.randn(4, 5))),
        "detours": (Detours(), F.mse_loss, (torch.randn(4, 7), torch.randn(4, 7))),
    }


@pytest.mark.parametrize("target", ["reference", pytest.param("cpu", marks=pytest.mark.tvm)])
@pytest.mark.parametrize("name", ["two", "tied", "masked", "detours"])
def test_two_steps_equal_eager(name: str, target: str) -> None:
    model, loss, batch = cases()[name]
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    step = quatrain.compile(model, loss, batch, sgd, recipe="fp32", target=target)
    for _ in range(2):
        value = step(*batch)
        sgd.zero_grad()
        wanted = loss(model(*batch[:-1]), batch[-1])
        wanted.backward()
        sgd.step()
        torch.testing.assert_close(value, wanted.detach(), rtol=CLOSE, atol=CLOSE)
    made = step.state_dict()
    for key, tensor in model.state_dict().items():
        made[key] = made[key].to(tensor.dtype)
        torch.testing.assert_close(made[key], tensor, rtol=1e-5, atol=CLOSE, msg=key)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            step.predict(*batch[:-1]), model(*batch[:-1]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("numbers", [(4,), (2, 6), (2.0, 6), (1, 8, 2), (9, 1.0, -2.0)])
def test_integers_are_counted_as_torch_counts(numbers: tuple[float, ...]) -> None:
    model, (x, y) = Placed(*numbers), torch.randn(2, 4, 7)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, F.mse_loss, (x, y), sgd, recipe="fp32", target="reference")
    torch.testing.assert_close(step(x, y), F.mse_loss(model(x), y).detach())


def test_predict_of_several_inputs_takes_any_number_of_samples() -> None:
    model, loss, batch = cases()["two"]
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, loss, batch, sgd, recipe="fp32", target="reference")
    x, z = torch.randn(9, 7), torch.randn(9, 3)
    with torch.no_grad():
        torch.testing.assert_close(step.predict(x, z), model(x, z), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="takes 2 tensors, not 1"):
        step.predict(x)
    with pytest.raises(InputError, match="as many samples of each input, not 9 and 8"):
        step.predict(x, z[:8])


def test_a_token_outside_of_the_table_is_refused() -> None:
    model, loss, (x, y) = cases()["tied"]
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, loss, (x, y), sgd, recipe="fp32", target="reference")
    wrong = x.clone()
    wrong[1, 2] = 11
    with pytest.raises(InputError, match=r"x holds the row 11; rows are 0 \.\. 10"):
        step(wrong, y)
    with pytest.raises(InputError, match=r"x holds the row 11; rows are 0 \.\. 10"):
        step.predict(wrong)
    with pytest.raises(InputError, match=r"y holds the label 11; labels are 0 \.\. 10"):
        step(x, wrong)


class Forgetful(nn.Module):
    """The tied language model with dropout, wide enough for several blocks of work."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Tied(tokens=50, width=64, length=40)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, some of them dropped."""
        made: Tensor = self.drop(self.model(x))
        return made


@pytest.mark.tvm
def test_threads_and_repetition_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for threads in ("1", "2", "2"):
        monkeypatch.setenv("QUATRAIN_THREADS", threads)
        torch.manual_seed(0)
        model = Forgetful()
        tokens = torch.randint(50, (8, 40))
        adam = torch.optim.AdamW(model.parameters(), lr=1e-3)
        step = quatrain.compile(
            model, sequence, (tokens, tokens.roll(1, 1)), adam, seed=5, clip_norm=1.0
        )
        for shift in (1, 2):
            step(tokens, tokens.roll(shift, 1))
        states.append(step.state)
    for other in states[1:]:
        for name, tensor in states[0].items():
            assert torch.equal(tensor, other[name]), name


def test_the_seed_decides_what_is_dropped() -> None:
    made = []
    for seed in (5, 5, 6):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(7, 33), nn.Dropout(0.5), nn.Linear(33, 3))
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = torch.ones(4, 7), torch.zeros(4, 3)
        step = quatrain.compile(
            model, F.mse_loss, (x, y), sgd, recipe="fp32", target="reference", seed=seed
        )
        made.append(float(step(x, y)))
    assert made[0] == made[1] != made[2]
