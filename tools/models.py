"""Networks as plain torch modules: what the examples, the tests and the benchmarks train."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution (same size at stride 1, no bias) and batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class _Residual(nn.Module):
    """``relu(body(x) + shortcut(x))``; the shortcut is the input, or a 1x1 convolution ("option B")
    with batch norm where the shape changes."""

    def __init__(self, body: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = body
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _basic(inputs: int, width: int, stride: int) -> _Residual:
    body = nn.Sequential(*_conv_bn(inputs, width, 3, stride), nn.ReLU(), *_conv_bn(width, width, 3))
    return _Residual(body, inputs, width, stride)


def _bottleneck(inputs: int, width: int, stride: int) -> _Residual:
    body = nn.Sequential(
        *_conv_bn(inputs, width, 1),
        nn.ReLU(),
        *_conv_bn(width, width, 3, stride),
        nn.ReLU(),
        *_conv_bn(width, 4 * width, 1),
    )
    return _Residual(body, inputs, 4 * width, stride)


class ResNet(nn.Module):
    """A residual network for small images: 3x3 stem without pooling, stages, mean, linear.

    Input ``[N, in_channels, H, W]`` float32, output ``[N, num_classes]``. Stage ``i`` has
    ``blocks[i]`` blocks of ``widths[i]`` channels (four times as many leave a bottleneck); each
    stage but the first halves the image.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        *,
        bottleneck: bool = False,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        channels = widths[0]
        self.stem = nn.Sequential(*_conv_bn(in_channels, channels, 3), nn.ReLU())
        stages: list[nn.Module] = []
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stage: list[nn.Module] = []
            for j in range(count):
                block = _bottleneck if bottleneck else _basic
                stage.append(block(channels, width, 2 if i and not j else 1))
                channels = 4 * width if bottleneck else width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))  # type: ignore[no-any-return]


def resnet20(width: int = 16, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-20 (arXiv 1512.03385, section 4.2) with 1x1 convolutions as shortcuts."""
    widths = (width, 2 * width, 4 * width)
    return ResNet(widths, (3, 3, 3), num_classes=num_classes, in_channels=in_channels)


def resnet18(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-18 (arXiv 1512.03385, table 1) with the stem for 32x32 images: 3x3, no pooling."""
    widths = (64, 128, 256, 512)
    return ResNet(widths, (2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-50 (arXiv 1512.03385, table 1) for 224x224: its stem halves the image twice."""
    widths, blocks = (64, 128, 256, 512), (3, 4, 6, 3)
    made = ResNet(widths, blocks, bottleneck=True, num_classes=num_classes, in_channels=in_channels)
    stem = (*_conv_bn(in_channels, widths[0], 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    made.stem = nn.Sequential(*stem)
    return made


def bottleneck_resnet(width: int = 16, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """A small ResNet of six bottleneck blocks, so that most layers are 1x1 convolutions."""
    widths = (width, 2 * width, 4 * width)
    return ResNet(
        widths, (2, 2, 2), bottleneck=True, num_classes=num_classes, in_channels=in_channels
    )


VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11_bn(
    num_classes: int = 10, in_channels: int = 3, groups: Sequence[Sequence[int]] = VGG11
) -> nn.Sequential:
    """VGG-11 with batch norm (arXiv 1409.1556, configuration A) and one linear layer, for 32x32.

    ``groups`` lists the channels of the convolutions between two poolings; five of them leave one
    pixel of 32x32.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for group in groups:
        for width in group:
            layers += [*_conv_bn(channels, width, 3), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, num_classes))


class _Inverted(nn.Module):
    """Expand by a 1x1, filter each channel, project by a 1x1 without ReLU; plus the input where
    shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        inner = factor * inputs
        expand = (*_conv_bn(inputs, inner, 1), nn.ReLU()) if factor > 1 else ()
        self.expand = nn.Sequential(*expand)
        depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.filter = nn.Sequential(depthwise, nn.BatchNorm2d(inner), nn.ReLU())
        self.project = _conv_bn(inner, outputs, 1)
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.filter(self.expand(x)))
        return x + y if self.same else y


class MobileNetV2(nn.Module):
    """MobileNetV2 (arXiv 1801.04381, table 2) for 32x32: three of its five halvings, and ReLU for
    ReLU6, whose upper bound the learned clips of a 4-bit recipe take over.

    ``width`` scales the channels, ``depth`` the number of blocks of each stage (at least one).
    """

    # Expansion, channels, blocks, stride of the first block.
    STAGES = (
        (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    )  # fmt: skip

    def __init__(
        self, width: float = 1.0, num_classes: int = 10, in_channels: int = 3, depth: float = 1.0
    ) -> None:
        super().__init__()
        channels = _eights(32 * width)
        self.stem = nn.Sequential(*_conv_bn(in_channels, channels, 3), nn.ReLU())
        blocks: list[nn.Module] = []
        for factor, outputs, count, stride in self.STAGES:
            for i in range(max(1, round(count * depth))):
                outputs_ = _eights(outputs * width)
                blocks.append(_Inverted(channels, outputs_, 1 if i else stride, factor))
                channels = outputs_
        self.blocks = nn.Sequential(*blocks)
        last = _eights(1280 * max(1.0, width))
        self.head = nn.Sequential(*_conv_bn(channels, last, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.head(self.blocks(self.stem(x)))), 1))  # type: ignore[no-any-return]


def _eights(channels: float) -> int:
    """The nearest multiple of eight, at least 8 and at least nine tenths of ``channels``."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def mobilenetv2(
    width: float = 1.0, num_classes: int = 10, in_channels: int = 3, depth: float = 1.0
) -> MobileNetV2:
    """MobileNetV2 with the stem for 32x32 images."""
    return MobileNetV2(width, num_classes, in_channels, depth)


def mlp(sizes: Sequence[int] = (64, 128, 128, 10)) -> nn.Sequential:
    """Linear layers from ``sizes[0]`` features to ``sizes[-1]`` classes, ReLU between them.

    The input ``[N, ...]`` is flattened. Raises ``ValueError`` for fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"an mlp of sizes {tuple(sizes)} has no layer; name at least two sizes")
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def digits_cnn(width: int = 16, num_classes: int = 10) -> nn.Sequential:
    """Four 3x3 convolutions and a linear layer for the 8x8 digits ``[N, 1, 8, 8]``.

    The three inner convolutions hold over 90 % of the multiplications.
    """
    return nn.Sequential(
        *_conv_bn(1, width, 3),
        nn.ReLU(),
        *_conv_bn(width, 2 * width, 3),
        nn.ReLU(),
        *_conv_bn(2 * width, 2 * width, 3, 2),
        nn.ReLU(),
        *_conv_bn(2 * width, 4 * width, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )
