"""Functions that capture writes with others: a step of each beside PyTorch, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain
from quatrain.compiler.capture.program import capture
from quatrain.compiler.errors import CaptureError, UnsupportedOpError

pytestmark = pytest.mark.torch
Use = Callable[[Tensor], Tensor]
# Sums of some terms in f32 in another order, and logarithms and exponentials rounded twice.
CLOSE = 1e-5


class Behind(nn.Module):
    """A layer, and a function of what it makes."""

    def __init__(self, use: Use, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.fc, self.use, self.layer = nn.Linear(6, 5), use, layer

    def forward(self, x: Tensor) -> Tensor:
        made = self.use(self.fc(x))
        return made if self.layer is None else self.layer(made)


def check(use: Use, layer: nn.Module | None = None) -> None:
    """Loss and parameters after one step are eager's."""
    torch.manual_seed(1)
    model, x = Behind(use, layer), torch.randn(3, 6)
    y = torch.randn_like(model(x))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, F.mse_loss, (x, y), sgd, recipe="fp32", target="reference")
    value, wanted = step(x, y), F.mse_loss(model(x), y)
    wanted.backward()
    sgd.step()
    torch.testing.assert_close(value, wanted.detach(), rtol=CLOSE, atol=CLOSE)
    for name, made in step.state_dict().items():
        torch.testing.assert_close(made, model.state_dict()[name], rtol=CLOSE, atol=CLOSE, msg=name)


def volume(h: Tensor) -> Tensor:
    return h.flatten()[:12].view(1, 1, 2, 2, 3)


def grid(h: Tensor) -> Tensor:
    return h.flatten()[:12].view(1, 2, 3, 2).tanh() * 1.4


def logs(h: Tensor) -> Tensor:
    """Two sequences of three steps, of the classes of which one ends two steps earlier."""
    return h[:, None].expand(3, 2, 5).log_softmax(-1)


ENDS: Any = (3, 1)
COUNTS: Any = (2, 1)
INDEX = torch.tensor([[0, 1, 0, 2, 1], [0, 0, 0, 1, 1], [2, 0, 0, 1, 1]])
BOUNDS = torch.tensor([-0.5, 0.0, 0.5])
# Some functions a case: a capture takes longer than a function.
FUNCTIONS: dict[str, Use] = {
    "angles": lambda h: (3 * h).atan() + torch.atan2(h, h.flip(0)) + h.tanh().asin() + h.tan(),
    "other angles": lambda h: h.tanh().acos() + (h.abs() + 1.5).acosh() + (0.9 * h.tanh()).atanh(),
    "hyperbolic": lambda h: h.sinh() + h.cosh() + h.asinh() + h.erfc() + torch.hypot(h, h.flip(0)),
    "remainders": lambda h: h % 0.3 + h.fmod(0.7) + h.frac() + h % (h.flip(0).abs() + 0.3),
    "not finite": lambda h: (
        h * (h / (h > 0)).detach().nan_to_num(0.5, 2.0, -3.0) * h.isinf().logical_not()
    ),
    "powers of tensors": lambda h: (h.abs() + 0.1) ** h,
    "other logarithms": lambda h: (
        h.sigmoid().logit() + torch.logaddexp2(h, h.flip(0)) + h.rad2deg()
    ),
    "products": lambda h: h.prod(1, keepdim=True) + h.prod() + h.cumprod(1),
    "running logarithm": lambda h: (40 * h).logcumsumexp(0),
    "distances": lambda h: torch.cdist(h, h + 1) + F.pdist(h).sum() + torch.cdist(h, h, p=1),
    "ranks": lambda h: h.kthvalue(2, 1).values + h.median(1).values + h.median() + h.nansum(1),
    "places": lambda h: h * torch.bucketize(h, BOUNDS) + torch.searchsorted(BOUNDS, h, right=True),
    "counts": lambda h: h[:, :4] * torch.histc(h.detach(), 4, -1, 1) + (h > 0).count_nonzero(),
    "extremes": lambda h: h.aminmax(dim=1)[1] + h.take(torch.tensor(7)) + h.rot90().sum(0),
    "scatter": lambda h: (
        h.scatter_reduce(0, INDEX, 2 * h, "amax") + h.scatter_reduce(0, INDEX, h, "mean")
    ),
    "scatter anew": lambda h: h.scatter_reduce(0, INDEX, h, "prod", include_self=False),
    "volumes": lambda h: F.max_pool3d(volume(h), (2, 1, 2), 1, (1, 0, 1), (1, 1, 2))[..., :1, :2],
    "means": lambda h: F.avg_pool3d(volume(h), 2, 1, 1, ceil_mode=True, count_include_pad=False),
    "normed": lambda h: F.local_response_norm(h[:, :, None], 3, alpha=0.5),
    "resized": lambda h: F.interpolate(volume(h), size=(3, 3, 4), mode="trilinear"),
    "antialiased": lambda h: F.interpolate(
        h[None, None], size=(2, 3), mode="bicubic", antialias=True
    ),
    "grid": lambda h: F.grid_sample(h[None, None], grid(h), align_corners=False),
    "bicubic grid": lambda h: F.grid_sample(h[None, None], grid(h), "bicubic", "border", True),
    "reflected grid": lambda h: F.grid_sample(
        h[None, None], grid(h) * 2, padding_mode="reflection", align_corners=False
    ),
    "affine": lambda h: F.affine_grid(h[None, :2, :3], [1, 1, 3, 2], align_corners=True),
    "unpooled": lambda h: F.max_unpool2d(
        *F.max_pool2d(h[None, None], 2, 1, 1, return_indices=True), [1, 1], output_size=(4, 6)
    ),
    "shuffled": lambda h: F.channel_shuffle(h[None, :, :4].transpose(1, 2).unsqueeze(-1), 2),
    "ctc": lambda h: F.ctc_loss(logs(h), torch.tensor([[1, 2], [3, 0]]), ENDS, COUNTS) + h,
    "ctc in a line": lambda h: (
        F.ctc_loss(
            logs(h),
            torch.tensor([1, 1, 2]),
            torch.tensor([2, 2]),
            torch.tensor([2, 1]),
            0,
            "sum",
            True,
        )
        + h
    ),
    "margins": lambda h: (
        F.soft_margin_loss(h, h.detach().sign())
        + F.multilabel_margin_loss(h, torch.tensor([[3, 0, -1, 1, 1]] * 3))
        + h
    ),
    "variances": lambda h: F.gaussian_nll_loss(h, h.flip(0), h.exp(), full=True) + h,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_equals_eager(name: str) -> None:
    check(FUNCTIONS[name])


LAYERS: dict[str, Callable[[], tuple[Use, nn.Module]]] = {
    "conv3d": lambda: (volume, nn.Conv3d(1, 2, (2, 1, 2), (2, 1, 1), (1, 0, 1), (1, 2, 1))),
    "conv3d in groups": lambda: (
        lambda h: volume(h).expand(1, 2, 2, 2, 3),
        nn.Conv3d(2, 4, (3, 1, 3), padding="same", groups=2),
    ),
    "conv_transpose3d": lambda: (volume, nn.ConvTranspose3d(1, 2, 2, 2, 1, 1, dilation=2)),
    "bags": lambda: (
        lambda h: h,
        Bags(nn.EmbeddingBag(7, 5, mode="max"), nn.EmbeddingBag(7, 5, mode="mean", padding_idx=2)),
    ),
}


class Bags(nn.Module):
    """Two tables, the bags of which are read at offsets; one bag is empty."""

    def __init__(self, *bags: nn.Module) -> None:
        super().__init__()
        self.bags = nn.ModuleList(bags)

    def forward(self, h: Tensor) -> Tensor:
        places, starts = torch.tensor([0, 1, 2, 2, 6]), torch.tensor([0, 3, 3])
        made: Tensor = h * sum(bag(places, starts) for bag in self.bags)
        return made


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_eager(name: str) -> None:
    torch.manual_seed(2)
    check(*LAYERS[name]())


def test_a_convolution_of_volumes_is_one_layer_in_four_bits() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
    x = torch.randn(1, 1, 3, 3, 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"exempt": "none"}
    step = quatrain.compile(
        model, F.mse_loss, (x, x.expand(1, 2, 3, 3, 3)), sgd, options=options, target="reference"
    )
    assert {g.layer for g in step.report().gemms} == {"0"}
    assert step.report().four_bit_share == 1.0


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
