"""Integers times a power of two that follows from a tensor's largest magnitude, in the same step.

s = 2^floor(log2(top / max |x|))     x s, scale 1/s     rounded to integers by one more op
"""

from __future__ import annotations

from math import sqrt

from ...compiler.formats import Format
from ...compiler.ir import Op, Value, attrs, unused
from ...compiler.types import SCALAR, Scale, TensorType
from .names import part


def below(limit: float) -> float:
    """The largest f32 below a power of two.

    As ``top`` it makes s the power of two with ``limit / 2 <= max |x s| < limit``.
    """
    return limit * (1 - 2.0**-24)


def around(unit: float) -> float:
    """As ``top`` this makes s = unit / 2^round(log2 max |x|).

    No f32 number is a power of two times the square root of two, so that there are no ties.
    """
    return unit * sqrt(2)


class Shifts:
    """Scales tensors by shifts; ``taken`` are the names in use."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.one: Value | None = None

    def scaled(
        self, layer: str, x: Value, name: str, top: float, largest: Value | None = None
    ) -> tuple[list[Op], Value, Value]:
        """The ops, the factor s and x s; s is 1 where x is all 0 or not finite.

        ``largest`` is the magnitude that s follows from, where it is not that of x itself.
        """
        ops: list[Op] = []
        if self.one is None:
            self.one = Value(unused("one", self.taken), SCALAR)
            ops.append(Op("constant", (), (self.one,), attrs(value=1.0), layer))
        s = Value(unused(part(layer, f"{name}.shift"), self.taken), SCALAR)
        made = TensorType(x.type.shape, x.type.format, Scale.POW2)
        scaled = Value(unused(part(layer, f"{name}.scaled"), self.taken), made)
        how = attrs(top=top, always=True)
        ops.append(Op("grad_scale_init", (self.one, largest or x), (s,), how, layer))
        ops.append(Op("grad_scale", (x, s), (scaled,), origin=layer))
        return ops, s, scaled

    def rounded(
        self,
        layer: str,
        x: Value,
        name: str,
        top: float,
        format_: Format,
        largest: Value | None = None,
    ) -> tuple[list[Op], Value]:
        """The ops and the codes of x, to nearest even, saturating."""
        ops, _, scaled = self.scaled(layer, x, name, top, largest)
        made = TensorType(x.type.shape, format_, Scale.POW2)
        codes = Value(unused(part(layer, f"{name}q"), self.taken), made)
        return [*ops, Op("cast", (scaled,), (codes,), origin=layer)], codes
