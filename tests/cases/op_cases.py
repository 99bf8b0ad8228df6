"""Small networks and losses, one for each op that a step can hold; awkward shapes throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["reflect", "replicate", "circular"]
Case = tuple[nn.Module, Tensor]
Loss = Callable[[Any, Any], Tensor]
IMAGES = (3, 3, 6, 7)
CLASSES = 5


class Then(nn.Module):
    """A convolution, and a function of what it makes; ``positive`` numbers where asked for."""

    def __init__(self, function: Callable[[Tensor], Tensor], positive: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.function, self.positive = function, positive

    def forward(self, x: Tensor) -> Tensor:
        """The function of the layer's output."""
        y = self.layer(x)
        return self.function(y.abs() + 0.5 if self.positive else y)


class Part(nn.Module):
    """One of several results."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.which = which

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        """The part."""
        return parts[self.which]


class Both(nn.Module):
    """A layer of two inputs, behind one layer each."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.layer = nn.Linear(5, 5), nn.Linear(5, 5), layer

    def forward(self, x: Tensor) -> Tensor:
        """Of one input twice."""
        made: Tensor = self.layer(self.one(x), self.two(x))
        return made


def after(function: Callable[[Tensor], Tensor], *, positive: bool = False) -> Case:
    """A function behind a convolution."""
    return Then(function, positive), torch.randn(IMAGES)


def module(*layers: nn.Module, shape: tuple[int, ...] = IMAGES) -> Case:
    """Modules one after the other."""
    return nn.Sequential(*layers), torch.randn(shape)


def behind(layer: nn.Module) -> Case:
    """A module behind a convolution."""
    return module(nn.Conv2d(3, 4, 3, padding=1), layer)


def padded(mode: Mode, padding: int | tuple[int, int] = 1) -> Case:
    """A convolution with a padding mode."""
    return module(nn.Conv2d(3, 4, 3, padding=padding, padding_mode=mode))


def attended(x: Tensor) -> Tensor:
    """Causal attention of an image with itself."""
    return F.scaled_dot_product_attention(x, x, x, is_causal=True)


def _tokens(*layers: nn.Module) -> Case:
    return nn.Sequential(*layers), torch.randint(0, 11, (4, 5))


CASES: dict[str, Callable[[], Case]] = {
    "gelu": lambda: behind(nn.GELU()),
    "gelu_tanh": lambda: behind(nn.GELU(approximate="tanh")),
    "silu": lambda: behind(nn.SiLU()),
    "hardswish": lambda: behind(nn.Hardswish()),
    "hardsigmoid": lambda: behind(nn.Hardsigmoid()),
    "hardtanh": lambda: behind(nn.Hardtanh(-0.3, 0.4)),
    "relu6": lambda: behind(nn.ReLU6()),
    "leaky_relu": lambda: behind(nn.LeakyReLU(0.1)),
    "elu": lambda: behind(nn.ELU()),
    "sigmoid": lambda: behind(nn.Sigmoid()),
    "tanh": lambda: behind(nn.Tanh()),
    "softplus": lambda: behind(nn.Softplus()),
    "mish": lambda: behind(nn.Mish()),
    "log_sigmoid": lambda: behind(nn.LogSigmoid()),
    "prelu": lambda: behind(nn.PReLU(4)),
    "glu": lambda: behind(nn.GLU(1)),
    "softmax": lambda: behind(nn.Softmax(1)),
    "log_softmax": lambda: behind(nn.LogSoftmax(1)),
    "layer_norm": lambda: behind(nn.LayerNorm([6, 7])),
    "group_norm": lambda: behind(nn.GroupNorm(2, 4)),
    "instance_norm": lambda: behind(nn.InstanceNorm2d(4, affine=True)),
    "rms_norm": lambda: behind(nn.RMSNorm(7)),
    "upsample_nearest": lambda: behind(nn.Upsample(scale_factor=2)),
    "upsample_bilinear": lambda: behind(nn.Upsample(scale_factor=2, mode="bilinear")),
    "upsample_exact": lambda: behind(nn.Upsample(size=(9, 5), mode="nearest-exact")),
    "upsample_cubic": lambda: behind(nn.Upsample(scale_factor=1.7, mode="bicubic")),
    "upsample_cubic_corners": lambda: behind(
        nn.Upsample(size=(9, 2), mode="bicubic", align_corners=True)
    ),
    "upsample_corners": lambda: behind(
        nn.Upsample(size=(9, 5), mode="bilinear", align_corners=True)
    ),
    "reflect": lambda: padded("reflect"),
    "replicate": lambda: padded("replicate", (2, 1)),
    "circular": lambda: padded("circular"),
    "conv_transpose2d": lambda: module(
        nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)
    ),
    "conv_transpose2d_groups": lambda: behind(
        nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 3), groups=2, dilation=(2, 1))
    ),
    "conv1d": lambda: module(
        nn.Conv1d(3, 5, 3, padding=1), nn.BatchNorm1d(5), nn.ReLU(), shape=(4, 3, 13)
    ),
    "conv1d_stride": lambda: module(
        nn.Conv1d(3, 6, 4, stride=2, padding="valid", groups=3), shape=(4, 3, 13)
    ),
    "conv_transpose1d": lambda: module(nn.ConvTranspose1d(3, 5, 4, stride=3), shape=(4, 3, 7)),
    "linear_1d": lambda: module(nn.Linear(7, 5), shape=(7,)),
    "linear_3d": lambda: module(nn.Linear(7, 5), nn.GELU(), shape=(2, 3, 7)),
    "linear_4d": lambda: module(nn.Linear(7, 5), shape=(2, 3, 1, 7)),
    "embedding": lambda: _tokens(nn.Embedding(11, 6, padding_idx=2), nn.Linear(6, 3)),
    "transformer": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu"),
        torch.randn(2, 5, 8),
    ),
    "pow": lambda: after(lambda x: x**1.7, positive=True),
    "cube": lambda: after(lambda x: x**3),
    "exp2": lambda: after(lambda x: 2.0**x),
    "div": lambda: after(lambda x: x / (x * x + 1)),
    "reciprocal": lambda: after(lambda x: 1 / (x * x + 1)),
    "roots_and_logs": lambda: after(
        lambda x: x.log() + x.sqrt() + x.log1p() + x.rsqrt() + x.log2(), positive=True
    ),
    "floor": lambda: after(lambda x: x - x.floor()),
    "waves": lambda: after(lambda x: x.sin() * (3 * x).cos()),
    "rounding": lambda: after(lambda x: x.round() + x * x.ceil() - x.trunc()),
    "windows": lambda: after(lambda x: F.unfold(x, (2, 3), stride=2) + x.unfold(2, 3, 2).mean()),
    "diagonals": lambda: after(lambda x: x.diagonal(1, 3, 1).exp() + x[0, 0].trace()),
    "norms": lambda: after(lambda x: x / x.norm(dim=(1, 2), keepdim=True) + F.celu(x, 0.5)),
    "cell": lambda: module(nn.LSTMCell(7, 3), Part(0), shape=(4, 7)),
    "bilinear": lambda: (Both(nn.Bilinear(5, 5, 3)), torch.randn(7, 5)),
    "threshold": lambda: after(lambda x: F.threshold(x, 0.3, 2.0)),
    "exp": lambda: after(lambda x: x.exp() + x.expm1()),
    "var_std": lambda: after(lambda x: x.var(1) + x.std(1)),
    "amax": lambda: after(lambda x: x.amax(2)),
    "amin": lambda: after(lambda x: x.amin((1, 3), keepdim=True) + x.amin(2, keepdim=True)),
    "pixel_shuffle": lambda: after(lambda x: F.pixel_shuffle(x, 2)),
    "cosine": lambda: after(lambda x: F.cosine_similarity(x, x.flip(1))),
    "clamp": lambda: after(lambda x: x.clamp(-0.3, 0.4)),
    "where": lambda: after(lambda x: torch.where(x > 0.1, x, x * 2)),
    "maximum": lambda: after(lambda x: torch.maximum(x, x * x) - torch.minimum(x, -x)),
    "logsumexp": lambda: after(lambda x: x.logsumexp(1)),
    "norm": lambda: after(lambda x: x.norm(dim=1)),
    "flip_roll": lambda: after(lambda x: x.flip(1).roll(2, 3)),
    "repeat": lambda: after(lambda x: x.repeat(1, 2, 1, 1)),
    "triangles": lambda: after(lambda x: x.tril() + x.triu(1) * 2),
    "masked_fill": lambda: after(lambda x: x.masked_fill(x > 0, -1.0)),
    "matmul": lambda: after(lambda x: x @ x.transpose(-1, -2)),
    "einsum": lambda: after(lambda x: torch.einsum("nchw,ncvw->nhv", x, x)),
    "attention": lambda: after(attended),
    "lerp": lambda: after(lambda x: torch.lerp(x, x * 2, 0.3)),
    "chunk": lambda: after(lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1]),
    "abs_sign": lambda: after(lambda x: x.abs() + x * x.sign()),
}

WEIGHTS = torch.arange(1.0, CLASSES + 1)
LOSSES: dict[str, tuple[Loss, str]] = {
    "cross_entropy": (F.cross_entropy, "classes"),
    "label_smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
    "class_weights": (nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=2), "classes"),
    "weights_and_smoothing": (
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2, ignore_index=2),
        "classes",
    ),
    "smoothing_sum": (
        nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.2, ignore_index=0),
        "classes",
    ),
    "each": (lambda o, y: F.cross_entropy(o, y, reduction="none").square().sum(), "classes"),
    "ignored": (nn.CrossEntropyLoss(ignore_index=1), "classes"),
    "soft_labels": (
        lambda o, y: F.cross_entropy(o, y.softmax(1), label_smoothing=0.1),
        "numbers",
    ),
    "nll": (lambda o, y: F.nll_loss(F.log_softmax(o, 1), y), "classes"),
    "bce_with_logits": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), "shares"),
    "bce": (lambda o, y: F.binary_cross_entropy(torch.sigmoid(o), y), "shares"),
    "mse_each": (lambda o, y: F.mse_loss(o, y, reduction="none").sum(), "numbers"),
    "l1": (F.l1_loss, "numbers"),
    "smooth_l1": (F.smooth_l1_loss, "numbers"),
    "huber": (F.huber_loss, "numbers"),
    "kl_div": (
        lambda o, y: F.kl_div(F.log_softmax(o, 1), F.softmax(y, 1), reduction="batchmean"),
        "numbers",
    ),
    "dense_labels": (
        lambda o, y: F.cross_entropy(o.view(4, CLASSES, 1, 2), y.view(4, 1, 2)),
        "dense",
    ),
}


def target_of(kind: str) -> Tensor:
    """A target for outputs of 4 x CLASSES (dense: two places each)."""
    return {
        "classes": lambda: torch.tensor([0, 1, 2, 4]),
        "numbers": lambda: torch.randn(4, CLASSES),
        "shares": lambda: torch.rand(4, CLASSES),
        "dense": lambda: torch.randint(0, CLASSES, (4, 2)),
    }[kind]()
