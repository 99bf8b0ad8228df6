"""Geometry of forward and dX convolutions: which input pixels and taps make each output pixel.

Both are sums over a regular grid of taps: ``out[p] = sum_i in[p * stride + offset + i * slope] *
w[first + i * step]``. A strided dX is one such sum for each residue of the output index (a phase),
with the taps that reach it, so that no zero is inserted and none is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any, TypeAlias

from .product import Product
from .shapes import channels_last, shape4

# A number, or an expression of a kernel.
Index: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Axis:
    """Taps along one dimension, for ``places`` outputs from ``origin`` on."""

    origin: int
    places: int
    taps: int
    first: int
    step: int
    offset: int
    slope: int

    @property
    def reach(self) -> tuple[int, int]:
        """Smallest and largest input index relative to ``place * stride``."""
        last = self.offset + (self.taps - 1) * self.slope
        return min(self.offset, last), max(self.offset, last)

    def tap(self, number: Index) -> Index:
        """Place in the kernel of the tap of a number."""
        return self.first + number * self.step


@dataclass(frozen=True, slots=True)
class Phase:
    """Outputs with the same taps: those of a phase of the rows and of one of the columns."""

    number: int
    rows: Axis
    columns: Axis

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both."""
        return self.rows, self.columns

    @property
    def taps(self) -> int:
        """Taps of a sum."""
        return self.rows.taps * self.columns.taps


@dataclass(frozen=True, slots=True)
class Side:
    """One dimension: input step a place, output step a place, and the phases."""

    stride: int
    step: int
    phases: tuple[Axis, ...]

    @property
    def reach(self) -> tuple[int, int]:
        """Over all phases that have taps."""
        reaches = [p.reach for p in self.phases if p.taps] or [(0, 0)]
        return min(r[0] for r in reaches), max(r[1] for r in reaches)

    @property
    def places(self) -> int:
        """Places of the longest phase."""
        return max(p.places for p in self.phases)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Images of rows of pixels in, the same out; both dimensions."""

    images: int
    height: int
    width: int
    rows: Side
    columns: Side
    flat: bool

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Each phase of the rows with each of the columns."""
        pairs = product(self.rows.phases, self.columns.phases)
        return tuple(Phase(i, rows, columns) for i, (rows, columns) in enumerate(pairs))

    def output(self, phase: Phase, y: Index, x: Index) -> tuple[Index, Index]:
        """Row and column of the result at a place of a phase."""
        h = phase.rows.origin + y * self.rows.step
        return h, phase.columns.origin + x * self.columns.step


def geometry(spec: Product) -> Geometry:
    """Of a forward or dX GEMM; a 1x1 stride-1 one is a single row of pixels (``flat``)."""
    n, _, h, w = shape4(spec.a)
    _, _, out_h, out_w = shape4(spec.out)
    _, _, r, s = shape4(spec.b)
    pointwise = (r, s) == (1, 1) and spec.stride == (1, 1) and spec.padding == (0, 0)
    if spec.batch == 1 and pointwise and channels_last(spec.a) and channels_last(spec.out):
        pixels = n * h * w
        return Geometry(1, 1, pixels, _forward(1, 1, 1, 0, 1), _forward(pixels, 1, 1, 0, 1), True)
    make = _forward if spec.direction == "forward" else _input_grad
    sides = [
        make(places, taps, *numbers)
        for places, taps, *numbers in zip(
            (out_h, out_w), (r, s), spec.stride, spec.padding, spec.dilation, strict=True
        )
    ]
    return Geometry(n, h, w, sides[0], sides[1], False)


def _forward(places: int, taps: int, stride: int, padding: int, dilation: int) -> Side:
    axis = Axis(0, places, taps, first=0, step=1, offset=-padding, slope=dilation)
    return Side(stride, 1, (axis,))


def _input_grad(places: int, taps: int, stride: int, padding: int, dilation: int) -> Side:
    phases = []
    for origin in range(min(stride, places)):
        reached = [r for r in range(taps) if (origin + padding - r * dilation) % stride == 0]
        first = reached[0] if reached else 0
        step = stride // gcd(stride, dilation)
        phases.append(
            Axis(
                origin,
                -(-(places - origin) // stride),
                len(reached),
                first,
                step,
                (origin + padding - first * dilation) // stride,
                -(step * dilation) // stride,
            )
        )
    return Side(1, stride, tuple(phases))
