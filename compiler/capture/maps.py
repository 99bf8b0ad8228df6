"""Ops for torch's dispatcher that are no layers: maps along a dimension, checks, and dropout.

A map is a sparse matrix by rows: ``y[i]`` is the sum of ``weights[k] * x[index[k]]`` for ``k`` from
``starts[i]`` to ``starts[i + 1]``. Padding by reflection, interpolation and the like are such maps,
and the gradient of one is the map of the transposed matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

library = Library("qtr", "FRAGMENT")
MAP = "int dim, int size, int[] starts, int[] index, float[] weights"
library.define(f"resample(Tensor x, {MAP}) -> Tensor")
library.define("one_hot(Tensor target, int classes, int ignore) -> Tensor")
library.define("within(Tensor x, float low, float high) -> Tensor")
library.define("dropout(Tensor x, float p, str layer) -> Tensor")
qtr = torch.ops.qtr

Term = tuple[int, float]
Distance = TypeVar("Distance", float, Tensor)
CUBIC, SMOOTH = -0.75, -0.5  # the shapes of torch's cubic filters, the second one of antialiasing


@dataclass(frozen=True, slots=True)
class Map:
    """A sparse matrix from ``size`` elements: the terms (index, weight) of each row."""

    size: int
    rows: tuple[tuple[Term, ...], ...]

    def transposed(self) -> Map:
        """The map of the gradient."""
        columns: list[list[Term]] = [[] for _ in range(self.size)]
        for i, row in enumerate(self.rows):
            for j, weight in row:
                columns[j].append((i, weight))
        return Map(len(self.rows), tuple(map(tuple, columns)))

    def lists(self) -> tuple[list[int], list[int], list[float]]:
        """Starts, index and weights."""
        starts = [0]
        for row in self.rows:
            starts.append(starts[-1] + len(row))
        terms = [term for row in self.rows for term in row]
        return starts, [i for i, _ in terms], [w for _, w in terms]

    @classmethod
    def of(
        cls, size: int, starts: Sequence[int], index: Sequence[int], weights: Sequence[float]
    ) -> Map:
        """From ``lists``."""
        terms = list(zip(index, weights, strict=True))
        return cls(size, tuple(tuple(terms[a:b]) for a, b in pairwise(starts)))

    def along(self, x: Tensor, dim: int) -> Tensor:
        """Apply to one dimension."""
        if self == identity(self.size):
            return x
        made: Tensor = qtr.resample(x, dim % x.dim(), self.size, *self.lists())
        return made


def identity(size: int) -> Map:
    """Every element itself."""
    return places(size, range(size))


def places(size: int, index: Sequence[int]) -> Map:
    """Single elements."""
    return Map(size, tuple(((i, 1.0),) for i in index))


def padded(size: int, before: int, behind: int, mode: str) -> Map:
    """Padding as ``torch.nn.functional.pad`` with reflect, replicate or circular; negative cuts."""
    index = range(-before, size + behind)
    if mode == "replicate":
        return places(size, [min(max(i, 0), size - 1) for i in index])
    if mode == "circular":
        return places(size, [i % size for i in index])
    period = max(1, 2 * (size - 1))
    return places(size, [min(i % period, period - i % period) for i in index])


def nearest(size: int, made: int, scale: float | None, *, middle: float = 0.0) -> Map:
    """Interpolation to the nearest element, as torch counts it; exact from the ``middle`` 0.5."""
    step = 1 / scale if scale else size / made
    return places(size, [min(floor((i + middle) * step), size - 1) for i in range(made)])


def interpolated(size: int, made: int, scale: float | None, *, align_corners: bool) -> Map:
    """Interpolation between two neighbours."""
    rows = []
    for place in _between(size, made, scale, align_corners):
        low = min(floor(max(place, 0.0)), size - 1)
        high, share = min(low + 1, size - 1), max(place, 0.0) - low
        rows.append(((low, 1 - share), (high, share)) if high > low else ((low, 1.0),))
    return Map(size, tuple(rows))


def cubic(size: int, made: int, scale: float | None, *, align_corners: bool) -> Map:
    """Interpolation between four neighbours, the outermost of which are repeated."""
    rows = []
    for place in _between(size, made, scale, align_corners):
        first = floor(place) - 1
        weights: dict[int, float] = {}
        for i in range(first, first + 4):
            at = min(max(i, 0), size - 1)
            weights[at] = weights.get(at, 0.0) + _cubic(abs(place - i))
        rows.append(tuple(weights.items()))
    return Map(size, tuple(rows))


def _cubic(away: float, a: float = CUBIC) -> float:
    return near(away, a) if away <= 1 else far(away, a) if away < 2 else 0.0


def near(away: Distance, a: float = CUBIC) -> Distance:
    """Keys' convolution of images up to a distance of 1; torch has a = -3/4."""
    return ((a + 2) * away - (a + 3)) * away * away + 1


def far(away: Distance, a: float = CUBIC) -> Distance:
    """From 1 to 2."""
    return ((a * away - 5 * a) * away + 8 * a) * away - 4 * a


def antialiased(
    size: int, made: int, scale: float | None, *, align_corners: bool, cubic: bool
) -> Map:
    """Interpolation that widens its filter where an image gets smaller."""
    if align_corners:
        step = (size - 1) / (made - 1) if made > 1 else 0.0
    else:
        step = 1 / scale if scale else size / made
    wide = max(step, 1.0)
    reach = (2.0 if cubic else 1.0) * wide
    rows = []
    for i in range(made):
        middle = step * (i + 0.5)
        first, last = max(int(middle - reach + 0.5), 0), min(int(middle + reach + 0.5), size)
        away = [abs(j - middle + 0.5) / wide for j in range(first, last)]
        shares = [_cubic(d, SMOOTH) if cubic else max(0.0, 1 - d) for d in away]
        total = sum(shares)
        rows.append(tuple((first + j, share / total) for j, share in enumerate(shares)))
    return Map(size, tuple(rows))


def _between(size: int, made: int, scale: float | None, align_corners: bool) -> list[float]:
    """Where the elements that are made lie among those that are there."""
    if align_corners:
        step = (size - 1) / (made - 1) if made > 1 else 0.0
        return [i * step for i in range(made)]
    step = 1 / scale if scale else size / made
    return [(i + 0.5) * step - 0.5 for i in range(made)]


def _resample(
    x: Tensor, dim: int, size: int, starts: list[int], index: list[int], weights: list[float]
) -> Tensor:
    made = torch.zeros((len(starts) - 1, size), dtype=x.dtype)
    for i, row in enumerate(Map.of(size, starts, index, weights).rows):
        for j, weight in row:
            made[i, j] += weight
    return torch.movedim(torch.tensordot(made, x, ([1], [dim])), 0, dim)


def _shape(x: Tensor, dim: int, size: int, starts: list[int], *rest: Any) -> Tensor:
    return x.new_empty((*x.shape[:dim], len(starts) - 1, *x.shape[dim + 1 :]))


def _save_map(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, *rest = inputs
    ctx.map = Map.of(*rest)


def _backward_of_resample(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    back = ctx.map.transposed()
    return qtr.resample(g, ctx.dim, back.size, *back.lists()), None, None, None, None, None


def _one_hot(target: Tensor, classes: int, ignore: int) -> Tensor:
    known = target.unsqueeze(1)
    places = torch.arange(classes).reshape(-1, *(1,) * (target.dim() - 1))
    return ((known == places) & (known != ignore)).to(torch.float32)


def _one_hot_shape(target: Tensor, classes: int, ignore: int) -> Tensor:
    shape = (target.shape[0], classes, *target.shape[1:])
    return target.new_empty(shape, dtype=torch.float32)


def _within(x: Tensor, low: float, high: float) -> Tensor:
    return torch.where((x >= low) & (x <= high), x, torch.nan)


def _dropout(x: Tensor, p: float, layer: str) -> Tensor:
    return torch.nn.functional.dropout(x, p)


def _save_dropout(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.p, ctx.layer = inputs


def _backward_of_dropout(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    # The mask is made again from the layer's name: dropout acts on its gradient as on its input.
    return qtr.dropout(g, ctx.p, ctx.layer), None, None


library.impl("resample", _resample, "CompositeExplicitAutograd")
library.impl("one_hot", _one_hot, "CompositeExplicitAutograd")
register_fake("qtr::one_hot", _one_hot_shape, lib=library)
library.impl("within", _within, "CompositeExplicitAutograd")
register_fake("qtr::within", lambda x, low, high: torch.empty_like(x), lib=library)
register_autograd("qtr::within", lambda ctx, g: (g, None, None), lib=library)
library.impl("dropout", _dropout, "CompositeExplicitAutograd")
register_fake("qtr::resample", _shape, lib=library)
register_fake("qtr::dropout", lambda x, p, layer: torch.empty_like(x), lib=library)
register_autograd("qtr::resample", _backward_of_resample, setup_context=_save_map, lib=library)
register_autograd("qtr::dropout", _backward_of_dropout, setup_context=_save_dropout, lib=library)
