"""Rows of any tensor by index, and what finds places: order, the largest number, running sums.

All act along the middle one of three dimensions, which any dimension becomes by a view.
"""

from __future__ import annotations

from ..program import Op
from .definition import Extents, OpDef
from .kinds import mixed
from .signature import define
from .traits import Trait


def _sizes(op: Op, at: Extents) -> str:
    sizes = op.ints_attr("sizes")
    fits = len(sizes) == len(op.inputs)
    return "" if fits else f"{len(op.inputs)} indices for {len(sizes)} sizes"


def _alike(op: Op, at: Extents) -> str:
    return mixed((op.inputs[0], *op.inputs[2:], op.result))


KEEPS, MOVES, LINEAR = Trait.KEEPS_CARRIER, Trait.MOVES, Trait.LINEAR
WRAPS = "{wraps: flag}"

GATHER: tuple[OpDef, ...] = (
    define(
        f"take(x: plain[L R D], index: int<R>[*I]) {WRAPS} -> y: plain[L *I D]",
        """the rows of x that index names; with wraps -1 is the last one. NaN, of integers -1, where
        there is none""",
        KEEPS, MOVES, check=_alike,
    ),
    define(
        f"take_grad(g: float[L *I D], index: int<R>[*I]) {WRAPS} -> dx: f32[L R D]",
        "row r: sum of g where index names r",
    ),
    define(
        "gather(x: plain[L R D], index: int<R>[L K D]) -> y: plain[L K D]",
        "y[l, k, d] = x[l, index[l, k, d], d]; NaN, of integers -1, where there is no such row",
        KEEPS, MOVES, check=_alike,
    ),
    define(
        "gather_grad(g: float[L K D], index: int<R>[L K D]) -> dx: f32[L R D]",
        "dx[l, r, d]: sum of g[l, k, d] where index[l, k, d] is r",
    ),
    define(
        "scatter(x: plain[L R D], index: int<R>[L K D], y: plain[L K D]) -> z: plain[L R D]",
        """x, but y[l, k, d] at row index[l, k, d], of several the last; NaN in row 0 where there is
        no such row""",
        KEEPS, check=_alike,
    ),
    define(
        "place(index: int[*S]...) {sizes: ints >= 1, wraps: flag} -> n: int[*S]",
        """the row-major place among sizes that the indices name together; -1 where one lies
        outside; with wraps -1 is the last one""",
        check=_sizes,
    ),
    define(
        "order(x: number[L R D]) {descending: flag} -> index: int[L R D]",
        "the rows of the least number, of the next one, ...; equal ones stay; NaN is largest",
    ),
    define(
        "argmax(x: number[L R D]) -> index: int[L D]",
        "the first row of the largest number; NaN is largest",
    ),
    define(
        "cumsum(x: plain[L R D]) -> y: plain[L R D]",
        "the sum of a row and all before it",
        KEEPS, LINEAR, Trait.KEEPS_SIGN, check=_alike,
    ),
)  # fmt: skip
