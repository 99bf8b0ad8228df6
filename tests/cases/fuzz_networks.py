"""Random networks as data: every list of layers is one, whatever was left out of it.

A layer is a kind and some numbers; what the numbers mean follows from the shape that reaches the
layer, so that any layer can be dropped and the rest is still a network.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

CHANNELS = (1, 3, 4, 7, 12, 16, 20, 33)
SIZES = (1, 3, 4, 7, 13, 27)
BATCHES = (1, 2, 3, 7)
CLASSES = 5
Mode = Literal["reflect", "replicate", "circular"]
MODES: tuple[Mode, ...] = ("reflect", "replicate", "circular")
ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.ELU,
    lambda: nn.LeakyReLU(0.1),
    nn.Softplus,
)
Shape = tuple[int, ...]  # channels, height, width
Layer = tuple[str, tuple[int, ...]]
NUMBERS = 7


@dataclass(frozen=True)
class Spec:
    """A network with its batch and what is to be compiled of it."""

    batch: int
    shape: Shape
    layers: tuple[Layer, ...]
    optimizer: str = "sgd"
    recipe: str = "fp32"
    options: tuple[tuple[str, str], ...] = field(default=())
    seed: int = 0


def pick(options: tuple[int, ...], number: int) -> int:
    """One of several, by a number."""
    return options[number % len(options)]


class Around(nn.Module):
    """A layer whose result is joined with its input: added, multiplied as a gate, or beside it."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        """The joined tensor."""
        y: Tensor = self.inner(x)
        if self.how == "add":
            return x + y
        return x * torch.sigmoid(y) if self.how == "gate" else torch.cat([x, y], 1)


class Pixels(nn.Module):
    """Attention of all pixels with each other."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        n, c, h, w = x.shape
        flat = x.flatten(2).transpose(1, 2)
        seen = nn.functional.scaled_dot_product_attention(flat, flat, flat)
        # Contiguous: torch's own gradient of group norm crashes on some other strides.
        made: Tensor = seen.transpose(1, 2).reshape(n, c, h, w).contiguous()
        return made


class Cut(nn.Module):
    """Every second row of one dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """About half."""
        return x[:, :, ::2] if self.dim == 2 else x[:, :, :, 1:]


Made = tuple[nn.Module, Shape]


def conv(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """Any convolution that fits."""
    c, h, w = shape
    out = pick(CHANNELS, n[0])
    kernel = min(1 + n[1] % 3, h + 2), min(1 + n[2] % 4, w + 2)
    stride, dilation = 1 + n[3] % 3, 1 + n[4] % 2
    divisors = [g for g in range(1, c + 1) if c % g == 0]
    groups = divisors[n[5] % len(divisors)]
    out = -(-out // groups) * groups
    padding = n[6] % 2, (n[6] // 2) % 2
    reach = [dilation * (k - 1) + 1 for k in kernel]
    if any(s + 2 * p < r for s, p, r in zip((h, w), padding, reach, strict=True)):
        return None
    layer = nn.Conv2d(c, out, kernel, stride, padding, dilation, groups, bias=n[6] % 3 > 0)
    sides = ((s + 2 * p - r) // stride + 1 for s, p, r in zip((h, w), padding, reach, strict=True))
    return layer, (out, *sides)


def bordered(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """A convolution with a padding mode."""
    c, h, w = shape
    mode, out = MODES[n[0] % 3], pick(CHANNELS, n[1])
    if min(h, w) < 2:
        return None
    return nn.Conv2d(c, out, 3, padding=1, padding_mode=mode), (out, h, w)


def transposed(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """A transposed convolution."""
    c, h, w = shape
    out, kernel, stride = pick(CHANNELS[:5], n[0]), 1 + n[1] % 3, 1 + n[2] % 2
    if h * w > 200:
        return None
    made = tuple((s - 1) * stride + kernel for s in (h, w))
    return nn.ConvTranspose2d(c, out, kernel, stride), (out, *made)


def norm(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """Batch, group, layer or instance norm."""
    c, h, w = shape
    if batch * h * w < 2:
        return None
    kind = n[0] % 4
    if kind == 0 or h * w < 2:
        return nn.BatchNorm2d(c), shape
    if kind == 1:
        return nn.GroupNorm(c if c < 4 else 1, c), shape
    return (nn.LayerNorm([h, w]) if kind == 2 else nn.InstanceNorm2d(c, affine=True)), shape


def activation(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """Any of the activations, or PReLU."""
    i = n[0] % (len(ACTIVATIONS) + 1)
    return (ACTIVATIONS[i]() if i < len(ACTIVATIONS) else nn.PReLU()), shape


def pool(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """Pooling of windows of two, or to a size."""
    c, h, w = shape
    if n[0] % 3 == 2:
        size = 1 + n[1] % 3, 1 + n[2] % 3
        return nn.AdaptiveAvgPool2d(size), (c, *size)
    if min(h, w) < 2:
        return None
    layer = nn.MaxPool2d(2) if n[0] % 3 == 0 else nn.AvgPool2d(2)
    return layer, (c, h // 2, w // 2)


def resize(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """Interpolation to twice or another size."""
    c, h, w = shape
    if h * w > 200:
        return None
    size = (2 * h, 2 * w) if n[0] % 2 else (h + n[1] % 3, w + 1)
    if n[2] % 2:
        return nn.Upsample(size, mode="bilinear", align_corners=bool(n[3] % 2)), (c, *size)
    return nn.Upsample(size), (c, *size)


def around(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """A convolution beside its input."""
    c, h, w = shape
    how = ("add", "gate", "cat")[n[0] % 3]
    inner = nn.Conv2d(c, c, 1 + 2 * (n[1] % 2), padding=n[1] % 2)
    return Around(inner, how), (2 * c if how == "cat" else c, h, w)


def pixels(shape: Shape, n: tuple[int, ...], batch: int) -> Made | None:
    """Attention, or a cut."""
    c, h, w = shape
    if n[0] % 2 and h * w <= 100:
        return Pixels(), shape
    if n[1] % 2:
        return Cut(2), (c, -(-h // 2), w)
    return (Cut(3), (c, h, w - 1)) if w > 1 else None


KINDS: dict[str, Callable[[Shape, tuple[int, ...], int], Made | None]] = {
    "conv": conv,
    "bordered": bordered,
    "transposed": transposed,
    "norm": norm,
    "activation": activation,
    "pool": pool,
    "resize": resize,
    "around": around,
    "pixels": pixels,
}
WEIGHTS = {"conv": 6, "norm": 4, "activation": 5}
MOST_ELEMENTS = 60_000
# Formats of the 4-bit recipe beside its own.
MORE: tuple[dict[str, str], ...] = (
    {},
    {},
    {"radix": "16"},
    {"radix": "2", "single": "true"},
    {"radix": "8", "single": "true"},
    {"log5": "true"},
    {"bits": "3", "grid": "16"},
    {"bits": "8", "grid": "16", "sawb_gradient": "sawb"},
    {"bits": "2", "pact_plus": "true"},
)


def build(spec: Spec) -> nn.Module:
    """The network; layers that do not fit where they stand are left out."""
    torch.manual_seed(spec.seed)
    layers: list[nn.Module] = []
    shape = spec.shape
    for kind, numbers in spec.layers:
        made = KINDS[kind](shape, numbers, spec.batch)
        if made is not None and spec.batch * torch.Size(made[1]).numel() <= MOST_ELEMENTS:
            layers.append(made[0])
            shape = made[1]
    features = torch.Size(shape).numel()
    head: list[nn.Module] = [nn.Flatten(), nn.Linear(features, CLASSES)]
    if features > 500:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], CLASSES)]
    return nn.Sequential(*layers, *head)


def draw(seed: int) -> Spec:
    """A random network."""
    rng = random.Random(seed)
    names = list(KINDS)
    weights = [WEIGHTS.get(name, 1) for name in names]
    kinds = rng.choices(names, weights, k=rng.randint(1, 7))
    layers = tuple((k, tuple(rng.randrange(1000) for _ in range(NUMBERS))) for k in kinds)
    shape = rng.choice(CHANNELS[:5]), rng.choice(SIZES), rng.choice(SIZES)
    four = rng.random() < 0.5
    options = {
        "recompute": rng.choice(("none", "masks", "bn_input")),
        "exempt": rng.choice(("first,last", "none")),
        "carrier": rng.choice(("bf16", "f32")),
        "fp8_on": rng.choice(("1x1", "none")),
    }
    batch, optimizer = rng.choice(BATCHES), rng.choice(("sgd", "adam", "adamw", "rmsprop"))
    options |= rng.choice(MORE)
    return Spec(
        batch,
        shape,
        layers,
        optimizer,
        "ultra_low_4bit" if four else "fp32",
        tuple(options.items()) if four else (),
        seed,
    )
