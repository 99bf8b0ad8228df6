"""The order in which reductions of pointwise kernels add, the same on every target.

Rows form fixed blocks. Within a block up to 32 rows, a stripe, are summed in f32, then added to
sums in f64; the blocks' sums are added in their order at the end. Variances: per stripe the sums of
x - K and (x - K)^2 with K the first row, joined by Chan's formula, so that a mean far from zero
costs no digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..expr import Expr, Vectors, load
from .space import STRIPE

BLOCK = 16384  # elements that make a block worth a thread's while
MOST_BLOCKS = 64


def blocks(rows: int, channels: int) -> tuple[int, int]:
    """Rows a block, and blocks: a function of the shape alone, so that sums are too."""
    least = max(-(-BLOCK // channels), -(-rows // MOST_BLOCKS), 1)
    block_rows = -(-least // STRIPE) * STRIPE
    return block_rows, max(1, -(-rows // block_rows))


def chan(
    d: Vectors, places: Sequence[tuple[Expr, Expr]], new: tuple[Expr, Expr, Expr, Expr]
) -> None:
    """Join (rows before, new rows, their mean, their squares) to the moments at ``places``."""
    n, m, mean, squares = new
    old_mean, old_squares = (d.f(load(*place)) for place in places)
    delta, share = d.sub(mean, old_mean), d.div(m, d.add(n, m))
    d.code.store(*places[0], d.add(old_mean, d.mul(delta, share)))
    between = d.mul(d.mul(d.mul(delta, delta), n), share)
    d.code.store(*places[1], d.add(old_squares, d.add(squares, between)))


def moments(d: Vectors, mean: Expr, squares: Expr, rows: int) -> tuple[Expr, Expr]:
    """Mean and biased variance of all rows, f64 names."""
    # Whether a mean of infinity becomes NaN depends on the rows that are joined.
    mean = d.f(d.where(squares <= d.splat(math.inf), mean, squares))
    return mean, d.div(squares, d.splat(float(rows)))
