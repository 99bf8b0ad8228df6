"""Normalization: statistics apart from what uses them."""

from __future__ import annotations

from .definition import OpDef
from .signature import define
from .traits import Trait

STATISTICS = "mean: f32[C], var: f32[C]"
EPS = "{eps: float >= 0}"
IMAGE, POINTWISE, TAIL, DATA = Trait.IMAGE, Trait.POINTWISE, Trait.TAIL, Trait.MAKES_CARRIER

NORM: tuple[OpDef, ...] = (
    define(
        "batch_stats(x: float[N C *S]) -> mean: f32[C], var: f32[C]",
        "over all but channels; var is biased; both NaN where a number is infinite or NaN",
        IMAGE, TAIL,
    ),
    define(
        f"batch_norm(x: float[N C *S], {STATISTICS}, gamma: f32[C], beta: f32[C]) {EPS}"
        " -> y: float[N C *S]",
        "x * a + b, a = gamma / sqrt(var + eps), b = beta - mean * a",
        IMAGE, POINTWISE, DATA, Trait.CHEAP,
    ),
    define(
        f"batch_norm_grad_stats(g: float[N C *S], x: float[N C *S], {STATISTICS}) {EPS}"
        " -> dgamma: f32[C], dbeta: f32[C]",
        "dgamma = sum g * (x - mean) * r, r = 1 / sqrt(var + eps); dbeta = sum g",
        IMAGE, TAIL,
    ),
    define(
        f"batch_norm_input_grad(g: float[N C *S], x: float[N C *S], {STATISTICS}, gamma: f32[C],"
        f" dgamma: f32[C], dbeta: f32[C]) {EPS} -> dx: float[N C *S]",
        """g * a + x * b + c, a = gamma * r, b = -a * dgamma * r / P, c = -a * dbeta / P - mean * b,
        P = elements per channel""",
        IMAGE, POINTWISE, DATA,
    ),
    define(
        f"batch_norm_eval_grad(g: float[N C *S], var: f32[C], gamma: f32[C]) {EPS}"
        " -> dx: float[N C *S]",
        "g * (gamma / sqrt(var + eps)): the statistics are constants",
        IMAGE, POINTWISE, DATA,
    ),
    define(
        "running_stats(old: f32[*S], new: f32[*S]) {momentum: float, correction: float}"
        " -> next: f32[*S]",
        "(1 - momentum) * old + momentum * (new * correction)",
        Trait.RUNNING,
    ),
    define(
        "running_average(old: f32[*S], new: f32[*S], count: int[]) {correction: float}"
        " -> next: f32[*S]",
        "the same with momentum 1 / count",
        Trait.RUNNING,
    ),
    define("increment(n: int[]) -> next: int[]", "n + 1"),
    define(
        "tally(n: int[], x: float[?]...) -> next: int[]",
        "n + 1 where any number of any x is infinite or NaN, else n",
    ),
    define(
        "count_where(n: int[], x: f32[]) -> next: int[]",
        "n + 1 where x is not 0, else n",
    ),
    define("ratio(n: int[]) {by: int >= 1} -> q: int[]", "n / by, rounded down"),
    define(
        "turn(n: int[]) {of: int >= 0, at: int} -> m: f32[]",
        "1 where n mod of is at (of = 0: where n is at), else 0",
    ),
)  # fmt: skip
