"""Losses."""

from __future__ import annotations

from .definition import OpDef
from .signature import define
from .traits import Trait

HOW = "reduction: mean|sum"

LOSS: tuple[OpDef, ...] = (
    define("log_softmax(x: float[N C]) -> y: f32[N C]", "over dimension 1"),
    define(
        "log_softmax_grad(g: f32[N C], y: f32[N C]) -> dx: float[N C]",
        "g - exp(y) * sum g",
        Trait.MAKES_CARRIER,
    ),
    define(
        f"nll_loss(y: f32[N C], target: int<C>[N]) {{{HOW}, ignore_index: int}}"
        " -> loss: f32[], count: f32[]",
        "minus the mean, or sum, of y at the targets; count of targets not ignored",
    ),
    define(
        f"nll_loss_grad(g: f32[], target: int<C>[N], count: f32[]) {{{HOW}, ignore_index: int}}"
        " -> dy: f32[N C]",
        "-g (mean: / count) at the targets that are not ignored, else 0",
    ),
    define(
        f"mse_loss(x: float[*S], y: float[*S]) {{{HOW}}} -> loss: f32[]",
        "the mean, or sum, of (x - y)^2",
    ),
    define(
        f"mse_loss_grad(g: f32[], x: float[*S], y: float[*S]) {{{HOW}}} -> dx: float[*S]",
        "2 g (x - y), mean: divided by the number of elements",
        Trait.MAKES_CARRIER,
    ),
)
