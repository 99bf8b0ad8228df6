"""Functions that capture writes with others, at their edges: large integers, zeros, masks, refusals."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain
from quatrain.compiler.capture.program import capture
from quatrain.compiler.errors import CaptureError, UnsupportedOpError

from .test_composed_functions import Behind, Use, check

pytestmark = pytest.mark.torch


def test_integers_beyond_the_numbers_of_floats_are_sorted() -> None:
    ids = torch.tensor([5, -3, 2**40 + 1, 2**40, 7, 7, -(2**50), 3])

    def sorted_by(i: Tensor) -> Use:
        return lambda h: h.flatten()[:8] * i.sort(descending=True).indices + i.sort().indices

    check(sorted_by(ids + 0))
    model = Ids()
    x, y = torch.randn(8), torch.randn(8)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, F.mse_loss, (x, ids, y), sgd, recipe="fp32", target="reference")
    torch.testing.assert_close(step(x, ids, y), F.mse_loss(model(x, ids), y).detach())


class Ids(nn.Module):
    """Numbers in the order of integers that are an input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        order = ids.sort(stable=True).indices
        back = torch.zeros_like(order)
        back[order] = torch.arange(8)
        made: Tensor = self.fc(x)[order] * back
        return made


def test_what_is_made_of_a_constant_may_be_written() -> None:
    hidden = torch.arange(5) > 2

    def masked(h: Tensor) -> Tensor:
        mask = torch.zeros_like(hidden, dtype=torch.float32)
        mask.masked_fill_(hidden, -2.0)
        return h + mask

    check(masked)

    def changed(h: Tensor) -> Tensor:
        hidden[1:].fill_(True)
        return h * hidden

    model = Behind(changed)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CaptureError):
        capture(model, F.mse_loss, (torch.randn(3, 6), torch.randn(3, 5)), sgd)
    assert hidden.tolist() == [False, False, False, True, True]


def test_masks_of_a_transformer() -> None:
    body = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 1, 2, 0.0, batch_first=True), 1)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    check(lambda h: F.pad(h, (0, 3))[None], Rows(body, mask))


class Rows(nn.Module):
    """A decoder that reads itself, by a mask."""

    def __init__(self, body: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.body, self.mask = body, mask

    def forward(self, h: Tensor) -> Tensor:
        made: Tensor = self.body(h, h, tgt_mask=self.mask)
        return made


def test_powers_of_tensors_at_their_edges() -> None:
    x = torch.tensor([-2.0, -2.0, -2.0, 0.0, 0.0, 3.0])
    y = torch.tensor([3.0, 2.0, 0.5, 0.0, 2.0, -1.0])
    model = nn.Linear(6, 6)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)

    class Powers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = model

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return self.fc(x), x**y

    def loss(made: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        return F.mse_loss(made[0], target) + made[1].nansum() * 0

    step = quatrain.compile(
        Powers(), loss, (x[None], y[None], x[None]), sgd, recipe="fp32", target="reference"
    )
    torch.testing.assert_close(
        step.predict(x[None], y[None])[1], x[None] ** y[None], equal_nan=True
    )


def test_a_gradient_that_another_layer_has_rounded() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.LogSoftmax(-1))
    x, y = torch.randn(3, 6), torch.tensor([[0], [4], [2]])

    def loss(made: Tensor, target: Tensor) -> Tensor:
        return -made.t().gather(0, target.t()).mean()

    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, loss, (x, y), sgd, recipe="bf16", target="reference")
    # Logarithms of shares are rounded to 8 bits.
    torch.testing.assert_close(step(x, y), loss(model(x), y).detach(), rtol=2e-2, atol=0)


REFUSED: dict[str, tuple[Use, str]] = {
    "adds integers": (
        lambda h: (
            h * torch.zeros(5, dtype=torch.int64).index_put((h.argmax(1),), h.argmax(1), True)
        ),
        "adds integers by index",
    ),
    "grouped": (
        lambda h: torch.nn.functional.grouped_mm(h, h.T, offs=torch.tensor([1, 3, 5]).int()),
        "one matrix for each group",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused(name: str) -> None:
    use, why = REFUSED[name]
    model = Behind(use)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises((CaptureError, UnsupportedOpError), match=why):
        capture(model, lambda o, y: o.sum(), (torch.randn(3, 6), torch.randn(3)), sgd)
