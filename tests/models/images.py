"""Plain networks of images, volumes and lines: what people write with nn.Conv and its kin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .given import CLASSES, Around, Do, Given, Make, Side, classified, fitted, head, mlp, unit


def lenet() -> Given:
    first = nn.Sequential(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2))
    second = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten())
    return classified(first, second, nn.Linear(32, 20), nn.Tanh(), nn.Linear(20, CLASSES))


def alexnet() -> Given:
    first = [nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.LocalResponseNorm(5, k=2), nn.MaxPool2d(3, 1)]
    rest = [nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)]
    return classified(*first, *rest, nn.Linear(32, CLASSES))


def vgg() -> Given:
    return classified(unit(3, 8), unit(8, 8), nn.MaxPool2d(2), unit(8, 16), head(16))


def resnet() -> Given:
    inner = nn.Sequential(unit(8, 16, 3, 2), nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16))
    block = Around(inner, nn.Conv2d(8, 16, 1, 2))
    return classified(unit(3, 8), block, nn.ReLU(inplace=True), head(16))


def preactivated() -> Given:
    inner = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
    return classified(nn.Conv2d(3, 8, 3, 1, 1), Around(inner), Around(inner), head(8))


def densenet() -> Given:
    def grow(n: int) -> nn.Module:
        return Side([nn.Identity(), nn.Sequential(nn.BatchNorm2d(n), nn.Conv2d(n, 4, 3, 1, 1))])

    return classified(unit(3, 8), grow(8), grow(12), nn.AvgPool2d(2), head(16))


def inception() -> Given:
    pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(6, 4, 1))
    block = Side([unit(6, 4, 1), unit(6, 4, 3), unit(6, 4, 5), pooled])
    return classified(unit(3, 6), block, head(16))


def squeezenet() -> Given:
    fire = nn.Sequential(unit(8, 4, 1), Side([unit(4, 8, 1), unit(4, 8, 3)]))
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return classified(unit(3, 8), fire, pool, nn.Conv2d(16, CLASSES, 1), head(CLASSES))


def mobilenet() -> Given:
    project = nn.Sequential(nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8))
    block = nn.Sequential(unit(8, 24, 1), unit(24, 24, 3, groups=24), project)
    return classified(unit(3, 8, 3, 2), Around(block), nn.ReLU6(), head(8))


def shufflenet() -> Given:
    def shuffle(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    halves = Do(lambda m, x: torch.cat([x.chunk(2, 1)[0], m(x.chunk(2, 1)[1])], 1), unit(4, 4))
    return classified(unit(3, 8), halves, Do(shuffle), nn.ChannelShuffle(4), head(8))


def squeeze_and_excitation() -> Given:
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1))
    block = Do(lambda g, x: x * torch.sigmoid(g(x)), gate)
    return classified(unit(3, 8), block, nn.Hardswish(), head(8))


def attention_of_channels_and_places() -> Given:
    def places(conv: nn.Module, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        gate: Tensor = conv(both).sigmoid()
        return x * gate

    return classified(unit(3, 8), Do(places, nn.Conv2d(2, 1, 7, padding=3)), head(8))


def convnext() -> Given:
    inner = nn.Sequential(
        nn.Conv2d(8, 8, 7, padding=3, groups=8),
        Do(lambda x: x.permute(0, 2, 3, 1)),
        nn.LayerNorm(8),
        nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)),
        Do(lambda x: x.permute(0, 3, 1, 2)),
    )
    return classified(nn.Conv2d(3, 8, 4, 4), Around(inner), nn.GroupNorm(1, 8), head(8))


def stochastic_depth() -> Given:
    def kept(inner: nn.Module, x: Tensor) -> Tensor:
        mask = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.8)
        made: Tensor = x + inner(x) * mask / 0.8
        return made

    return classified(unit(3, 8), Do(kept, unit(8, 8)), head(8))


def unet() -> Given:
    def run(down: nn.Module, deep: nn.Module, up: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        wide = down(x)
        low = up(deep(F.max_pool2d(wide, 2)))
        made: Tensor = out(torch.cat([wide, low], 1))
        return made

    parts = unit(3, 8), unit(8, 16), nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, CLASSES, 1)
    target = torch.randint(CLASSES, (3, 16, 16))
    return Given(Do(run, *parts), nn.CrossEntropyLoss(), (torch.randn(3, 3, 16, 16), target))


def segnet() -> Given:
    def run(enc: nn.Module, dec: nn.Module, x: Tensor) -> Tensor:
        small, places = F.max_pool2d(enc(x), 2, return_indices=True)
        made: Tensor = dec(F.max_unpool2d(small, places, [2, 2]))
        return made

    model = Do(run, unit(3, 8), nn.Conv2d(8, CLASSES, 3, padding=1))
    target = torch.randint(CLASSES, (3, 16, 16))
    return Given(model, nn.CrossEntropyLoss(), (torch.randn(3, 3, 16, 16), target))


def feature_pyramid() -> Given:
    def run(one: nn.Module, two: nn.Module, side: nn.Module, x: Tensor) -> Tensor:
        high = one(x)
        low = two(high)
        up = F.interpolate(low, size=high.shape[-2:], mode="nearest")
        made: Tensor = side(high) + up
        return made

    model = Do(run, unit(3, 8, 3, 2), unit(8, 8, 3, 2), nn.Conv2d(8, 8, 1))
    return classified(model, head(8), shape=(3, 3, 15, 15))


def pooled_pyramid() -> Given:
    pools = [nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Flatten()) for n in (1, 2, 3)]
    return classified(unit(3, 4), Side(pools), nn.Linear(56, CLASSES))


def atrous_pyramid() -> Given:
    branches = [nn.Conv2d(8, 4, 3, padding=d, dilation=d) for d in (1, 2, 4)]
    grown = Do(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
    target = torch.randint(CLASSES, (3, 16, 16))
    model = nn.Sequential(unit(3, 8, 3, 2), Side(branches), nn.Conv2d(12, CLASSES, 1), grown)
    return Given(model, nn.CrossEntropyLoss(), (torch.randn(3, 3, 16, 16), target))


def super_resolution() -> Given:
    layers = [nn.Conv2d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 4, 3, padding=1)]
    model = nn.Sequential(*layers, nn.PixelShuffle(2))
    return fitted(model, torch.randn(3, 1, 7, 7), torch.randn(3, 1, 14, 14))


def space_to_depth() -> Given:
    return classified(nn.PixelUnshuffle(2), unit(12, 8), head(8))


def generator() -> Given:
    first = [nn.ConvTranspose2d(7, 16, 4), nn.BatchNorm2d(16), nn.ReLU(True)]
    last = [nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh()]
    x, wanted = torch.randn(3, 7, 1, 1), torch.randn(3, 3, 8, 8)
    return fitted(nn.Sequential(*first, *last), x, wanted)


def discriminator() -> Given:
    first = [nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1)]
    rest = [nn.InstanceNorm2d(16, affine=True), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 1)]
    x, real = torch.randn(3, 3, 16, 16), torch.randint(2, (3, 1)).float()
    return Given(nn.Sequential(*first, *rest), nn.BCEWithLogitsLoss(), (x, real))


def spectral_discriminator() -> Given:
    norm = nn.utils.parametrizations.spectral_norm
    layers = [norm(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2), nn.Flatten()]
    return classified(*layers, norm(nn.Linear(512, CLASSES)))


def normalized_weights() -> Given:
    norm = nn.utils.parametrizations.weight_norm
    return classified(norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), head(8))


def style() -> Given:
    def run(conv: nn.Module, by: nn.Module, x: Tensor) -> Tensor:
        gain, shift = by(x.mean((2, 3))).chunk(2, 1)
        y = F.instance_norm(conv(x))
        made: Tensor = y * (1 + gain[:, :, None, None]) + shift[:, :, None, None]
        return made

    return classified(Do(run, nn.Conv2d(3, 8, 3), nn.Linear(3, 16)), head(8))


def spatial_transformer() -> Given:
    def run(where: nn.Module, x: Tensor) -> Tensor:
        theta = where(x.flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    where = nn.Linear(108, 6)
    with torch.no_grad():
        where.bias.copy_(torch.tensor([1.0, 0.1, 0.05, -0.1, 0.9, 0.0]))
        where.weight.mul_(0.1)
    return classified(Do(run, where), unit(3, 8), head(8), shape=(3, 3, 6, 6))


def masked_pixels() -> Given:
    mask = torch.ones(1, 1, 3, 3)
    mask[:, :, 1, 1:], mask[:, :, 2] = 0.0, 0.0

    def run(conv: nn.Conv2d, out: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = out(F.relu(F.conv2d(x, conv.weight * mask, conv.bias, padding=1)))
        return made

    model = Do(run, nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 1))
    target = torch.randint(4, (3, 7, 7))
    return Given(model, nn.CrossEntropyLoss(), (torch.randn(3, 1, 7, 7), target))


def hourglass() -> Given:
    def run(one: nn.Module, two: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        wide = one(x)
        low = F.interpolate(two(F.avg_pool2d(wide, 2)), scale_factor=2)
        made: Tensor = out(wide + low)
        return made

    model = Do(run, unit(3, 8), unit(8, 8), nn.Conv2d(8, 4, 1))
    return fitted(model, torch.randn(3, 3, 8, 8), torch.rand(3, 4, 8, 8))


def detector() -> Given:
    """Scores, and boxes around anchors, as a network of single shots."""
    anchors = torch.linspace(0.1, 0.9, 64).reshape(16, 4)

    def run(body: nn.Module, scores: nn.Module, boxes: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        y = body(x)
        moved = boxes(y).flatten(2).transpose(1, 2)
        middle = anchors[:, :2] + moved[..., :2] * anchors[:, 2:]
        size = anchors[:, 2:] * moved[..., 2:].clamp(max=2).exp()
        return scores(y).flatten(2).transpose(1, 2), torch.cat([middle, size], -1)

    def loss(made: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        scores, boxes = made
        positive = (target[..., 4] > 0).float()
        hit = F.binary_cross_entropy_with_logits(scores[..., 0], positive)
        away = F.smooth_l1_loss(boxes, target[..., :4], reduction="none").sum(-1)
        return hit + (away * positive).sum() / positive.sum().clamp(min=1)

    parts = (
        nn.Sequential(unit(3, 8, 3, 2), unit(8, 8, 3, 2)),
        nn.Conv2d(8, 1, 1),
        nn.Conv2d(8, 4, 1),
    )
    target = torch.cat([torch.rand(3, 16, 4), torch.randint(2, (3, 16, 1)).float()], -1)
    return Given(Do(run, *parts), loss, (torch.randn(3, 3, 16, 16), target))


def video() -> Given:
    layers = [nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d((1, 2, 2))]
    rest = [nn.Conv3d(6, 8, (3, 1, 1), padding=(1, 0, 0)), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    return classified(*layers, *rest, nn.Linear(8, CLASSES), shape=(2, 3, 4, 8, 8))


def volume_encoder() -> Given:
    encode = [nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.AvgPool3d(2), nn.Conv3d(4, 4, 1)]
    decode = [nn.ConvTranspose3d(4, 4, 2, 2), nn.ReLU(), nn.Upsample(scale_factor=2)]
    x = torch.randn(2, 1, 8, 8, 8)
    return fitted(nn.Sequential(*encode, *decode, nn.Conv3d(4, 1, 3, padding=1)), x, x.clone())


def wavenet() -> Given:
    def gated(conv: nn.Module, x: Tensor) -> Tensor:
        a, b = conv(F.pad(x, (2, 0))).chunk(2, 1)
        return x + torch.tanh(a) * torch.sigmoid(b)

    block = [Do(gated, nn.Conv1d(8, 16, 2, dilation=2)), nn.Conv1d(8, 4, 1)]
    model = nn.Sequential(nn.Conv1d(1, 8, 1), *block)
    target = torch.randint(4, (3, 13))
    return Given(model, nn.CrossEntropyLoss(), (torch.randn(3, 1, 13), target))


def separated_audio() -> Given:
    def run(enc: nn.Module, mask: nn.Module, dec: nn.Module, x: Tensor) -> Tensor:
        y = F.relu(enc(x))
        made: Tensor = dec(y * torch.sigmoid(mask(y)))
        return made

    mask = nn.Sequential(nn.GroupNorm(1, 8), nn.Conv1d(8, 8, 1), nn.PReLU(), nn.Conv1d(8, 8, 1))
    model = Do(run, nn.Conv1d(1, 8, 4, 2), mask, nn.ConvTranspose1d(8, 1, 4, 2))
    return fitted(model, torch.randn(3, 1, 20), torch.randn(3, 1, 20))


def patches() -> Given:
    """Windows of an image to columns, a layer, and back to an image."""
    model = nn.Sequential(
        nn.Unfold(3, padding=1), nn.Conv1d(27, 27, 1), nn.Fold((6, 6), 3, padding=1)
    )
    return fitted(model, torch.randn(3, 3, 6, 6), torch.randn(3, 3, 6, 6))


def capsules() -> Given:
    weight = nn.Parameter(torch.randn(1, 8, CLASSES, 4, 4) * 0.3)

    def squash(x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return x * square / (1 + square) / (square + 1e-8).sqrt()

    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.weight = nn.Linear(48, 32), weight

        def forward(self, x: Tensor) -> Tensor:
            u = squash(self.low(x).view(-1, 8, 1, 4, 1).squeeze(-1)).unsqueeze(-1)
            votes = (self.weight @ u).squeeze(-1)
            logits = votes.new_zeros(votes.shape[:-1])
            for _ in range(2):
                shares = logits.softmax(2).unsqueeze(-1)
                made = squash((shares * votes).sum(1))
                logits = logits + (votes * made.unsqueeze(1)).sum(-1)
            lengths: Tensor = made.norm(dim=-1)
            return lengths

    return Given(Routed(), nn.CrossEntropyLoss(), (torch.randn(3, 48), torch.randint(5, (3,))))


def vision_transformer() -> Given:
    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 16, 4, 4)
            self.cls, self.at = (
                nn.Parameter(torch.zeros(1, 1, 16)),
                nn.Parameter(torch.randn(17, 16)),
            )
            layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True)
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            rows = self.patch(x).flatten(2).transpose(1, 2)
            rows = torch.cat([self.cls.expand(len(x), -1, -1), rows], 1) + self.at
            made: Tensor = self.head(self.body(rows)[:, 0])
            return made

    x, y = torch.randn(3, 3, 16, 16), torch.randint(CLASSES, (3,))
    return Given(Vit(), nn.CrossEntropyLoss(), (x, y))


def mixer() -> Given:
    across = Do(lambda m, x: m(x.transpose(1, 2)).transpose(1, 2), mlp(16, 8, 16))
    rows = Do(lambda m, x: m(x).flatten(2).transpose(1, 2), nn.Conv2d(3, 8, 4, 4))
    blocks = [Around(nn.Sequential(nn.LayerNorm(8), m)) for m in (across, mlp(8, 16, 8))]
    return classified(rows, *blocks, Do(lambda x: x.mean(1)), nn.Linear(8, CLASSES))


def blurred_pooling() -> Given:
    def blur(x: Tensor) -> Tensor:
        taps = torch.tensor([1.0, 2.0, 1.0])
        kernel = (taps[:, None] * taps / 16).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])

    return classified(unit(3, 8), Do(blur), head(8))


def learned_pooling() -> Given:
    """Means of powers, and power-weighted pools."""

    def mean_of_powers(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.clamp(min=1e-3).pow(3.0), 2).pow(1 / 3)

    return classified(unit(3, 8), Do(mean_of_powers), nn.LPPool2d(2, 2), head(8))


IMAGES: dict[str, Make] = {
    f.__name__: f
    for f in (
        *(lenet, alexnet, vgg, resnet, preactivated, densenet, inception, squeezenet, mobilenet),
        *(shufflenet, squeeze_and_excitation, attention_of_channels_and_places, convnext),
        *(stochastic_depth, unet, segnet, feature_pyramid, pooled_pyramid, atrous_pyramid),
        *(super_resolution, space_to_depth, generator, discriminator, spectral_discriminator),
        *(normalized_weights, style, spatial_transformer, masked_pixels, hourglass, detector),
        *(video, volume_encoder, wavenet, separated_audio, patches, capsules),
        *(vision_transformer, mixer, blurred_pooling, learned_pooling),
    )
}
