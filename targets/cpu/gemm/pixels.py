"""The pixels that a weight gradient sums over, as rows; a row's sums fit the unit's accumulator."""

from __future__ import annotations

from dataclasses import dataclass

from ...gemm.shapes import shape4
from ...plan.layout import Layout

FLAT_LEAST, FLAT_MOST, FLAT_WHOLE = 16, 64, 8192


@dataclass(frozen=True, slots=True)
class Pixels:
    """The output pixels that are summed over: images of rows of columns; ``flat`` ones renumber
    the pixels of a 1x1 convolution."""

    images: int
    rows: int
    columns: int
    flat: bool


def pixels(g: Layout, pointwise: bool) -> Pixels:
    """Of a weight gradient with output gradient ``g``."""
    n, _, h, w = shape4(g)
    if not pointwise:
        return Pixels(n, h, w, False)
    count = n * h * w
    divisors = [d for d in range(1, min(count, FLAT_MOST) + 1) if count % d == 0]
    columns = max(divisors, key=lambda d: (d % 2 == 0, d))
    if columns < FLAT_LEAST and count <= FLAT_WHOLE:
        columns = count
    return Pixels(count // columns, 1, columns, True)
