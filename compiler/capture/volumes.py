"""Layers and pooling of volumes, made of those of images.

A window over the depth is a map along that dimension, so that a convolution of volumes is one layer
of images: the slices below a window lie side by side in the channels, the depth joins the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from .maps import Map, places

aten = torch.ops.aten
Three = int | list[int]
LayerOfImages = Callable[..., Tensor]


def three(value: Three, default: Sequence[int] = ()) -> list[int]:
    """A number for each of three dimensions; an empty list is ``default``."""
    values = [value] if isinstance(value, int) else list(value) or list(default)
    return values * 3 if len(values) == 1 else values


class Volumes:
    """What calls on volumes become, made of ``conv2d`` and ``conv_transpose2d`` as layers."""

    def __init__(self, conv2d: LayerOfImages, conv_transpose2d: LayerOfImages) -> None:
        self.conv2d, self.conv_transpose2d = conv2d, conv_transpose2d

    def table(self) -> dict[Any, Callable[..., Any]]:
        """The replaced ops."""
        return {
            aten.conv3d.default: self.conv3d,
            aten.conv3d.padding: self.conv3d,
            aten.conv_transpose3d.input: self.conv_transpose3d,
            aten.max_pool3d.default: max_pool,
            aten.avg_pool3d.default: average_pool,
            aten.adaptive_avg_pool3d.default: adaptive_average,
        }

    def conv3d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: Three = 1,
        padding: Three | str = 0,
        dilation: Three = 1,
        groups: int = 1,
    ) -> Tensor:
        """One layer of images, whose channels are those of all slices below a window."""
        if x.dim() == 4:
            given = (w, b, stride, padding, dilation, groups)
            return self.conv3d(x.unsqueeze(0), *given).squeeze(0)
        steps, apart = three(stride), three(dilation)
        before, behind, flat = _sides(padding, w.shape[2], apart[0])
        rows = windows(x.shape[2], w.shape[2], steps[0], before, behind, apart[0])
        count = len(rows) // w.shape[2]
        stacked = Map(x.shape[2], rows).along(x, 2).unflatten(2, (count, w.shape[2]))
        images = stacked.permute(0, 2, 1, 3, 4, 5).flatten(0, 1).flatten(1, 2)
        y = self.conv2d(images, w.flatten(1, 2), b, steps[1:], flat, apart[1:], groups)
        made: Tensor = y.unflatten(0, (x.shape[0], count))
        return made.transpose(1, 2)

    def conv_transpose3d(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: Three = 1,
        padding: Three = 0,
        output_padding: Three = 0,
        groups: int = 1,
        dilation: Three = 1,
    ) -> Tensor:
        """One layer of images that makes a slice for each tap; slices of one depth are added."""
        if x.dim() == 4:
            given = (w, b, stride, padding, output_padding, groups, dilation)
            return self.conv_transpose3d(x.unsqueeze(0), *given).squeeze(0)
        steps, edge, more = three(stride), three(padding), three(output_padding)
        apart, depth, taps = three(dilation), x.shape[2], w.shape[2]
        images = x.transpose(1, 2).flatten(0, 1)
        flat = (steps[1:], edge[1:], more[1:], groups, apart[1:])
        y = self.conv_transpose2d(images, w.flatten(1, 2), None, *flat)
        y = y.unflatten(1, (-1, taps)).unflatten(0, (x.shape[0], depth))
        y = y.permute(0, 2, 1, 3, 4, 5).flatten(2, 3)
        size = (depth - 1) * steps[0] - 2 * edge[0] + apart[0] * (taps - 1) + more[0] + 1
        terms: list[list[tuple[int, float]]] = [[] for _ in range(size)]
        for i in range(depth * taps):
            at = i // taps * steps[0] - edge[0] + i % taps * apart[0]
            if 0 <= at < size:
                terms[at].append((i, 1.0))
        y = Map(depth * taps, tuple(map(tuple, terms))).along(y, 2)
        return y if b is None else y + b.reshape(-1, 1, 1, 1)


def _sides(padding: Three | str, taps: int, dilation: int) -> tuple[int, int, list[int] | str]:
    """The depth's padding ahead and behind, and that of the images."""
    if isinstance(padding, str):
        total = dilation * (taps - 1) if padding == "same" else 0
        return total // 2, total - total // 2, padding
    edge = three(padding)
    return edge[0], edge[0], edge[1:]


def windows(
    size: int, taps: int, stride: int, before: int, behind: int, dilation: int = 1
) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Rows of a map: the elements of each window one after the other, nothing for padding."""
    last = size + before + behind - dilation * (taps - 1) - 1
    starts = range(-before, last // stride * stride - before + 1, stride)
    every = (start + k * dilation for start in starts for k in range(taps))
    return tuple(((i, 1.0),) if 0 <= i < size else () for i in every)


def _bounds(size: int, made: int, taps: int, stride: int, padding: int) -> list[range]:
    """The elements below each window."""
    starts = [i * stride - padding for i in range(made)]
    return [range(max(s, 0), min(s + taps, size)) for s in starts]


def _made(size: int, taps: int, stride: int, padding: int, up: bool, dilation: int = 1) -> int:
    """The number of windows, as torch counts them: none starts in the padding behind."""
    free = size + 2 * padding - dilation * (taps - 1) - 1
    made = (ceil(free / stride) if up else floor(free / stride)) + 1
    return made - 1 if up and (made - 1) * stride >= size + padding else made


def max_pool(
    x: Tensor,
    kernel: Three,
    stride: Three = (),  # type: ignore[assignment]
    padding: Three = 0,
    dilation: Three = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Of each slice, then over the depth: of equal ones the first, as torch."""
    if x.dim() == 4:
        return max_pool(x.unsqueeze(0), kernel, stride, padding, dilation, ceil_mode).squeeze(0)
    size, edge, apart = three(kernel), three(padding), three(dilation)
    steps = three(stride, size)
    images = x.transpose(1, 2).flatten(0, 1)
    flat = (size[1:], steps[1:], edge[1:], apart[1:], ceil_mode)
    y = torch.nn.functional.max_pool2d(images, *flat).unflatten(0, (x.shape[0], x.shape[2]))
    depth = x.shape[2]
    made = _made(depth, size[0], steps[0], edge[0], ceil_mode, apart[0])
    index: list[int] = []
    for i in range(made):
        every = [i * steps[0] - edge[0] + k * apart[0] for k in range(size[0])]
        known = [j for j in every if 0 <= j < depth]
        index += [*known, *known[-1:] * (size[0] - len(known))]  # padding wins nowhere
    rows = places(depth, index).along(y, 1).unflatten(1, (made, size[0]))
    best: Tensor = rows.max(2).values
    return best.transpose(1, 2)


def average_pool(
    x: Tensor,
    kernel: Three,
    stride: Three = (),  # type: ignore[assignment]
    padding: Three = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """A mean along each dimension after the other."""
    size, edge = three(kernel), three(padding)
    steps = three(stride, size)
    for i in range(3):
        length, taps, by, pad = x.shape[i - 3], size[i], steps[i], edge[i]
        made = _made(length, taps, by, pad, ceil_mode)
        rows = []
        for j, below in enumerate(_bounds(length, made, taps, by, pad)):
            padded = min(j * by - pad + taps, length + pad) - (j * by - pad)
            count = padded if count_include_pad else len(below)
            share = 1.0 if divisor_override else 1.0 / max(count, 1)
            rows.append(tuple((k, share) for k in below))
        x = Map(length, tuple(rows)).along(x, i - 3)
    return x / divisor_override if divisor_override else x


def adaptive_average(x: Tensor, size: list[int]) -> Tensor:
    """A mean along each dimension after the other."""
    for i in range(3):
        length, made = x.shape[i - 3], size[i]
        if made < 1:
            raise CaptureError(f"adaptive_avg_pool3d to {list(size)} leaves no numbers")
        cells = [range(j * length // made, -(-(j + 1) * length // made)) for j in range(made)]
        rows = tuple(tuple((k, 1.0 / len(cell)) for k in cell) for cell in cells)
        x = Map(length, rows).along(x, i - 3)
    return x
