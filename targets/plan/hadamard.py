"""A Hadamard transform of parts of a dimension, as additions and subtractions in stages.

Sylvester's matrix of size 2^k is the product of k stages, each of which makes a + b and a - b of
numbers 1, 2, 4 .. places apart; all are taken in f32, in that order, and multiplied by 2^(-k/2).
"""

from __future__ import annotations

import math

from ...compiler.ir import Op, Value
from .composition import Composition


def hadamard(op: Op, taken: set[str]) -> list[Op]:
    """The ops of a ``hadamard``."""
    (x, signs), made = op.inputs, op.result
    to, dim = Composition(op, taken), op.int_attr("dim")
    size, whole = signs.type.shape[0], made.type.shape
    if x.type.format.is_coded:
        x = to("dequantize", "real", x, shape=x.type.shape)
    if whole != x.type.shape:
        x = to("pad", "whole", x, shape=whole, before=(0,) * len(whole), value=0.0)
    ahead, behind = math.prod(whole[:dim]), math.prod(whole[dim + 1 :])
    count = whole[dim] // size
    parts = (ahead * count, size, behind)
    wide = to("broadcast", "signs", signs, shape=parts, dims=(0, 2))
    x = to("mul", "turned", to("view", "parts", x, shape=parts, f=x.type.format), wide, shape=parts)
    apart = 1
    while apart < size:
        x = _stage(to, x, (ahead * count * size // (2 * apart), 2, apart * behind))
        apart *= 2
    x = to("view", "sums", x, shape=whole)
    to.into("scale", made, x, factor=1 / math.sqrt(size))
    return to.made


def _stage(to: Composition, x: Value, shape: tuple[int, int, int]) -> Value:
    """Sums and differences of both halves of each pair."""
    x = to("view", "pairs", x, shape=shape)
    half = (shape[0], 1, shape[2])
    a, b = (to("slice", f"half{i}", x, shape=half, dim=1, start=i, step=1) for i in range(2))
    both = (to(kind, kind, a, b, shape=half) for kind in ("add", "sub"))
    return to("cat", "both", *both, shape=shape, dim=1)
