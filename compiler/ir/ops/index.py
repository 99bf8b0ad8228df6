"""Numbers made from places: counting, tables, choices, rows by index."""

from __future__ import annotations

from itertools import pairwise

from ..program import Op
from .definition import Extents, OpDef
from .signature import define
from .traits import Trait


def _table(op: Op, at: Extents) -> str:
    held, numbers = op.result.type.elements, len(op.floats_attr("numbers"))
    fits = held == numbers
    return "" if fits else f"a table of {numbers} numbers does not fill {op.result.type.shape}"


def _resample(op: Op, at: Extents) -> str:
    x, y, dim = at["*A"], at["*B"], op.int_attr("dim")
    starts, index, weights = (op.attrs[k] for k in ("starts", "index", "weights"))
    assert isinstance(starts, tuple) and isinstance(index, tuple) and isinstance(weights, tuple)
    if len(x) != len(y) or (*x[:dim], *x[dim + 1 :]) != (*y[:dim], *y[dim + 1 :]):
        return f"{x} and {y} differ in more than dimension {dim}"
    rising = starts[:1] == (0,) and all(a <= b for a, b in pairwise(starts))
    ends = len(starts) == y[dim] + 1 and starts[-1] == len(index) == len(weights)
    inside = all(0 <= i < x[dim] for i in index)
    if rising and ends and inside:
        return ""
    return f"starts, index and weights do not map {x[dim]} to {y[dim]}"


INDEX: tuple[OpDef, ...] = (
    define("iota() {start: int, step: int} -> n: int[*S]", "start, start + step, ... row by row"),
    define(
        "triangle() {diagonal: int} -> m: f32[*S R C]",
        "1 where column - row <= diagonal, in the last two dimensions, else 0",
    ),
    define("table() {numbers: floats} -> t: f32[*S]", "these numbers, row by row", check=_table),
    define(
        "hard_choice(x: float[N C]) -> m: f32[N C]",
        "1 at the first of the largest numbers along dimension 1, else 0",
    ),
    define(
        "one_hot(target: int<C>[N *S]) {ignore_index: int} -> m: f32[N C *S]",
        """1 at [target, ...] along a new dimension 1, else 0; all 0 where target is
        ignore_index""",
    ),
    define(
        "resample(x: float[*A]) {dim: dim of x, starts: ints, index: ints, weights: floats}"
        " -> y: float[*B]",
        "along dim, y[i] = sum of weights[k] * x[index[k]] for k = starts[i] .. starts[i + 1] - 1",
        Trait.KEEPS_CARRIER, check=_resample,
    ),
    define(
        "embedding(w: float[R D], index: int<R>[*S]) -> y: float[*S D]",
        "rows of w; NaN where there is none",
        Trait.MAKES_CARRIER,
    ),
    define(
        "embedding_grad(g: float[*S D], index: int<R>[*S]) {padding_index: int} -> dw: float[R D]",
        "row r: sum of g where index is r; 0 at padding_index",
    ),
)  # fmt: skip
