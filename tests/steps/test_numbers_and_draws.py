"""What eager PyTorch refuses of numbers, and what it draws anew: a step does as it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import quatrain
from quatrain.compiler.errors import InputError
from quatrain.runtime.step import Step

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
TARGETS = pytest.mark.parametrize("target", ["cpu", "reference"])
Function = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    """A layer, and what a test makes of it."""

    def __init__(self, use: Callable[[Tensor], Tensor] = torch.sigmoid) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.use = nn.Linear(7, 3), use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.fc(x))


X, Y = torch.ones(5, 7) / 3, torch.arange(15.0).reshape(5, 3) / 15


def made(loss: Function, target: str, model: nn.Module | None = None, recipe: str = "fp32") -> Step:
    model = model or Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return quatrain.compile(model, loss, (X, Y), sgd, recipe=recipe, target=target)


def shares(o: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(o, y)


READ: dict[str, Function] = {
    "function": shares,
    "module": nn.BCELoss(reduction="sum"),
    "weighted": lambda o, y: F.binary_cross_entropy(o, y, torch.ones(3)),
    "each": lambda o, y: F.binary_cross_entropy(o, y, reduction="none").square().sum(),
    "view": lambda o, y: F.binary_cross_entropy(o.reshape(-1), y.view(-1)),
    "beside another loss": lambda o, y: shares(o, y) + F.mse_loss(o, y),
}


def wrong(value: float) -> Tensor:
    y = Y.clone()
    y[3, 1] = value
    return y


@TARGETS
@pytest.mark.parametrize("loss", READ)
def test_targets_that_are_no_shares_are_refused(loss: str, target: str) -> None:
    step = made(READ[loss], target)
    assert torch.allclose(step(X, Y), READ[loss](Net()(X), Y))
    before = step.state
    for value in (-0.25, 1.5):
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            READ[loss](Net()(X), wrong(value))
        with pytest.raises(InputError, match=rf"^y holds {value:g}; 'loss' takes .* 0 \.\. 1$"):
            step(X, wrong(value))
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())
    step(X, wrong(0.0)), step(X, wrong(1.0))
    assert step.skipped == 0


@pytest.mark.parametrize("recipe", ["bf16", "ultra_low_4bit"])
def test_other_formats_refuse_them_too(recipe: str) -> None:
    with pytest.raises(InputError, match=r"y holds 1\.5"):
        made(shares, "reference", recipe=recipe)(X, wrong(1.5))


@TARGETS
def test_computed_targets_that_are_no_shares_are_not_applied(target: str) -> None:
    step = made(lambda o, y: shares(o, 2 * y), target)
    before = step.state_dict()
    assert step(X, Y).isnan() and step.skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in step.state_dict().items())
    step(X, Y / 2)
    assert step.skipped == 1


def test_what_eager_takes_is_taken() -> None:
    loss: Function = F.binary_cross_entropy_with_logits
    step = made(loss, "reference", Net(lambda h: h))
    assert torch.allclose(step(X, wrong(1.5)), loss(Net(lambda h: h)(X), wrong(1.5)))


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda h: F.dropout(h, 0.5),
    "feature": lambda h: F.dropout1d(h.unsqueeze(0), 0.5).squeeze(0),
    "attention": lambda h: F.scaled_dot_product_attention(h, h, h, dropout_p=0.5),
}


@TARGETS
@pytest.mark.parametrize("kind", DRAWS)
def test_dropout_that_is_on_in_eval_draws_at_each_predict(kind: str, target: str) -> None:
    step, alone = (made(F.mse_loss, target, Net(DRAWS[kind])) for _ in range(2))
    before = step.state
    seen = {str(step.predict(X).tolist()) for _ in range(8)}
    assert len(seen) > 2
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())
    assert torch.equal(step(X, Y), alone(X, Y)), "what is predicted changes no training"


def test_slices_of_a_prediction_draw_apart() -> None:
    step = made(F.mse_loss, "reference", Net(DRAWS["dropout"]))
    first, second = step.predict(X.repeat(2, 1)).split(5)
    assert not torch.equal(first, second)


def test_dropout_that_eval_switches_off_predicts_the_same() -> None:
    model = nn.Sequential(nn.Linear(7, 3), nn.Dropout(0.5))
    step = made(F.mse_loss, "reference", model)
    assert torch.equal(step.predict(X), step.predict(X))
