"""Windows that slide over the last two dimensions: shared by convolutions and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...compiler.ir import Op
from ...compiler.types import Shape
from ..numbers.tensor import Array

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A window of ``kernel`` taps at ``places`` of a plane of ``size``, numbers as (rows, columns).

    ``places`` may reach beyond the padding (ceil mode): the border is then wider at the far end.
    """

    size: Pair
    places: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)

    @classmethod
    def of(cls, op: Op, plane: Shape, places: Shape, kernel: Shape) -> Window:
        """The window of an op with ``stride``, ``padding`` and perhaps ``dilation``."""
        dilation = op.ints_attr("dilation") if "dilation" in op.attrs else (1, 1)
        pairs = (plane[-2:], places[-2:], kernel[-2:], op.ints_attr("stride"))
        return cls(*map(_pair, (*pairs, op.ints_attr("padding"), dilation)))

    @property
    def extent(self) -> Pair:
        """Size of the plane with its border."""
        reach = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(self.places, self.stride, self.dilation, self.kernel, strict=True)
        ]
        inner = [p + n for p, n in zip(self.padding, self.size, strict=True)]
        return max(reach[0], inner[0]), max(reach[1], inner[1])

    def border(self, x: Array, value: float = 0) -> Array:
        """A copy of ``x`` within a border of ``value``."""
        whole = np.full((*x.shape[:-2], *self.extent), value, x.dtype)
        self.inside(whole)[...] = x
        return whole

    def inside(self, whole: Array) -> Array:
        """The view of a plane with border that leaves the border out."""
        (p, q), (h, w) = self.padding, self.size
        return whole[..., p : p + h, q : q + w]

    def taps(self, whole: Array) -> Iterator[Array]:
        """For each tap, row by row, the view of what it sees at all places."""
        (n, m), (s, t), (d, e) = self.places, self.stride, self.dilation
        for r in range(self.kernel[0]):
            for c in range(self.kernel[1]):
                rows = slice(r * d, r * d + (n - 1) * s + 1, s)
                columns = slice(c * e, c * e + (m - 1) * t + 1, t)
                yield whole[..., rows, columns]

    def taps_backwards(self, whole: Array) -> list[Array]:
        """The taps in reverse: an element then meets the windows around it in ascending order."""
        return list(self.taps(whole))[::-1]


def grouped(x: Array, groups: int) -> Array:
    """N x (G C) x H x W as G x C x N x H x W."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2, 0, 3, 4)


def ungrouped(x: Array) -> Array:
    """The inverse of ``grouped``."""
    g, c, n, h, w = x.shape
    return x.transpose(2, 0, 1, 3, 4).reshape(n, g * c, h, w)


def _pair(numbers: Shape) -> Pair:
    a, b = numbers
    return a, b
