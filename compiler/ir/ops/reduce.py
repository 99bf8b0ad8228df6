"""Reductions and broadcasts."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import Shape
from ..program import Op
from .definition import Extents, OpDef
from .signature import define
from .traits import Trait


def _without(shape: Shape, dims: Sequence[int], keepdim: bool) -> Shape:
    if keepdim:
        return tuple(1 if i in dims else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in dims)


def _reduced(op: Op, at: Extents) -> str:
    dims, keepdim = op.ints_attr("dims"), op.bool_attr("keepdim")
    made = _without(at["*A"], dims, keepdim)
    return "" if made == at["*B"] else f"{op.kind} over {dims} of {at['*A']} makes shape {made}"


def _repeated(op: Op, at: Extents) -> str:
    x, made, dims = at["*A"], at["*B"], op.ints_attr("dims")
    fits = x in (_without(made, dims, True), _without(made, dims, False))
    return "" if fits else f"{x} does not repeat to {made} along {dims}"


KEEPS, ARITHMETIC = Trait.KEEPS_CARRIER, Trait.ARITHMETIC
OVER = "(x: float[*A]) {dims: dims of x, keepdim: flag} -> y: float[*B]"
REDUCTION = (Trait.REDUCTION, KEEPS, ARITHMETIC)

REDUCE: tuple[OpDef, ...] = (
    define(
        "sum_channels(g: float[N C *S]) -> s: f32[C]",
        "over all but channels",
        Trait.IMAGE, Trait.TAIL, Trait.ADDS_UP,
    ),
    define(f"sum{OVER}", "the sum over dims", *REDUCTION, Trait.KEEPS_SIGN, check=_reduced),
    define(f"mean{OVER}", "the mean over dims", *REDUCTION, Trait.KEEPS_SIGN, check=_reduced),
    define(f"max{OVER}", "the largest over dims", *REDUCTION, check=_reduced),
    define(
        "broadcast(x: float[*A]) {dims: dims of y} -> y: float[*B]",
        "repeats along dims; x has them with size 1 or lacks them",
        Trait.POINTWISE, KEEPS, ARITHMETIC, Trait.LINEAR, Trait.CHEAP, Trait.KEEPS_SIGN,
        check=_repeated,
    ),
)  # fmt: skip
