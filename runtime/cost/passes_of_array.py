"""Passes of an array over the tiles of a product: a cycle each, the last ones partly filled.

In a pass each column of the array adds up to ``inputs * rate`` products, and works for one of its
``pixels`` places. The sum goes over what the product adds up: channels, or, of a weight gradient,
places of all images. Where taps are not gathered each of them is a pass of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import product

import numpy as np
import numpy.typing as npt

from ...compiler.ir.nest import Nest, NestSide
from .accelerator import CostedArray

PassCounts = npt.NDArray[np.int64]
# How often a loop is cut, and how long its tiles are: the whole ones, and what is left.
LoopCut = tuple[tuple[PassCounts, PassCounts], tuple[PassCounts, PassCounts]]


def cut(size: int, tile: PassCounts) -> LoopCut:
    """The tiles of a loop."""
    tile = np.minimum(tile, size)
    rest = size % tile
    return (size // tile, tile), ((rest > 0).astype(np.int64), rest)


def array_passes(
    nest: Nest, cuts: Mapping[str, LoopCut], rate: Fraction, gathered: bool, array: CostedArray
) -> PassCounts:
    """Passes of one group on one array, for each set of tiles."""
    wide = Fraction(array.inputs) * rate
    pixels, columns = Fraction(array.pixels), Fraction(array.outputs)
    places = [cuts["images"], cuts["rows"], cuts["columns"]]
    if nest.makes is NestSide.W:
        taps = _turns([cuts["inputs"]], pixels) * nest.taps
        return taps * _turns([cuts["outputs"]], columns) * _turns(places, wide)
    made, summed = ("outputs", "inputs") if nest.makes is NestSide.Y else ("inputs", "outputs")
    sums = sum(_turns([cuts[summed]], wide, taps) for taps in _tap_groups(nest, gathered))
    return _turns(places, pixels) * _turns([cuts[made]], columns) * sums


def _turns(cuts: list[LoopCut], width: Fraction, taps: int = 1) -> PassCounts:
    """Turns of something ``width`` wide over all tiles of loops that go through it together."""
    total = np.zeros(len(cuts[0][0][0]), np.int64)
    for pieces in product(*cuts):
        count, size = np.ones_like(total), np.full_like(total, taps)
        for n, length in pieces:
            count *= n
            size *= length
        total += count * -(-size * width.denominator // width.numerator)
    return total


def _tap_groups(nest: Nest, gathered: bool) -> list[int]:
    """Taps that are summed side by side: all, of a strided data gradient those of each phase."""
    if not gathered:
        return [1] * nest.taps
    if nest.makes is NestSide.Y:
        return [nest.taps]
    axes = [
        [len(range(phase, k, s)) for phase in range(min(s, k))]
        for k, s in zip(nest.kernel, nest.stride, strict=True)
    ]
    return [a * b for a, b in product(*axes)]
