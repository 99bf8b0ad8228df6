"""Functions that capture writes with others: a step of each beside PyTorch, gradients included."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain

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


def rows(h: Tensor) -> Tensor:
    """Whole rows reduced by index, of which torch warns that it may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return h.index_reduce(0, torch.tensor([0, 2, 0]), 2 * h, "amin")


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
    "other volumes": lambda h: (
        F.interpolate(volume(h), scale_factor=2).mean()
        + F.interpolate(volume(h), size=(3, 1, 2), mode="nearest-exact").square().sum()
        + F.adaptive_avg_pool3d(volume(h), (1, 2, 2)).square().sum()
        + F.interpolate(h[None, None], size=2, mode="bilinear", antialias=True).square().sum()
        + h
    ),
    "others": lambda h: (
        torch.std_mean(h, 1)[0][:, None]
        + h * torch.heaviside(h.detach(), torch.tensor(0.5))
        + F.rrelu(h, training=False)
        + h.deg2rad()
    ),
    "unpooled volumes": lambda h: F.max_unpool3d(
        volume(h), torch.arange(0, 24, 2).view(1, 1, 2, 2, 3), [2, 1, 1], output_size=(4, 2, 3)
    ),
    "groups": lambda h: F.grouped_mm(
        F.pad(h, (0, 3)),
        torch.linspace(-1, 1, 128).view(2, 8, 8) * h.mean(),
        offs=torch.tensor([1, 3], dtype=torch.int32),
    ),
    "variances": lambda h: F.gaussian_nll_loss(h, h.flip(0), h.exp(), full=True) + h,
}


# By the names that docs/ops.md lists.
COMPARED = [
    "acos",
    "acosh",
    "adaptive_avg_pool3d",
    "affine_grid_generator",
    "aminmax",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg_pool3d",
    "bucketize",
    "cdist",
    "channel_shuffle",
    "conv3d",
    "conv_transpose3d",
    "cosh",
    "count_nonzero",
    "ctc_loss",
    "cumprod",
    "deg2rad",
    "embedding_bag",
    "erfc",
    "fmod",
    "frac",
    "grid_sampler",
    "grouped_mm",
    "heaviside",
    "histc",
    "hypot",
    "index_reduce",
    "isinf",
    "kthvalue",
    "logaddexp2",
    "logcumsumexp",
    "logit",
    "max_pool3d",
    "max_unpool2d",
    "max_unpool3d",
    "median",
    "multilabel_margin_loss",
    "nan_to_num",
    "nansum",
    "pdist",
    "prod",
    "rad2deg",
    "rot90",
    "rrelu",
    "scatter_reduce",
    "searchsorted",
    "sinh",
    "soft_margin_loss",
    "std_mean",
    "take",
    "tan",
    "upsample_bicubic2d_aa",
    "upsample_bilinear2d_aa",
    "upsample_nearest3d",
    "upsample_nearest_exact3d",
    "upsample_trilinear3d",
]


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
