"""Sums: the accumulators of a tile, and what each way to add keeps of them in registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Protocol

from ...tir.expr import Code, Expr
from .dots import add_short, multiply_add, multiply_add_short, multiply_pairs
from .units import HALF_BITS, Dot
from .vectors import Registers, bits, cast, splat


class Adding(Protocol):
    """What takes in products."""

    def add(self, a: Expr, b: Expr, *place: int) -> None:
        """Add the products of two vectors at a place."""


class TileSums(Adding, Protocol):
    """Vectors of sums; the products of a dot are added."""

    def begin(self, start: Expr | None, *place: int) -> None:
        """Begin with the numbers of ``start``; with 0 where it is None."""

    def total(self, *place: int) -> Expr:
        """The sums at a place, in the type that the dot's ``acc`` names."""


class WholeSums:
    """Sums that ``dot`` adds up as they are kept."""

    def __init__(self, code: Code, dot: Dot, shape: Sequence[int], lanes: int) -> None:
        self._dot, self._lanes = dot, lanes
        self._totals = Registers(code, shape, dot.acc, lanes)

    def begin(self, start: Expr | None, *place: int) -> None:
        """See ``TileSums``."""
        zero = splat(0, self._dot.acc, self._lanes)
        self._totals.set(zero if start is None else start, *place)

    def add(self, a: Expr, b: Expr, *place: int) -> None:
        """See ``TileSums``."""
        total = multiply_add(self._dot, self._totals.get(*place), a, b, self._lanes)
        self._totals.set(total, *place)

    def total(self, *place: int) -> Expr:
        """See ``TileSums``."""
        return self._totals.get(*place)


class ShortSums:
    """A run of products in int16, which then joins the sums that last."""

    def __init__(self, code: Code, shape: Sequence[int], lanes: int) -> None:
        self._lanes, self._places = lanes, places(shape)
        self._short = Registers(code, shape, "int16", 2 * lanes)
        for place in self._places:
            self._short.set(splat(0, "int16", 2 * lanes), *place)

    def add(self, a: Expr, b: Expr, *place: int) -> None:
        """See ``Adding``."""
        self._short.set(multiply_add_short(self._short.get(*place), a, b, self._lanes), *place)

    def join(self, sums: TileSums) -> None:
        """Add the run to ``sums``."""
        for place in self._places:
            some = self._short.get(*place)
            sums.begin(add_short(sums.total(*place), some, self._lanes), *place)


class SplitSums:
    """Sums of more bits than int32 has: the lower 32 of all, and the upper halves of the addends.

    What two products make fits int32. Modulo 2^32 the sum is right; that of the upper halves, times
    2^16, falls short of it by less than 2^32, so that both together are the sum.
    """

    def __init__(self, code: Code, dot: Dot, shape: Sequence[int], lanes: int) -> None:
        self._acc, self._lanes = dot.acc, lanes
        self._low, self._high = (Registers(code, shape, "int32", lanes) for _ in range(2))

    def begin(self, start: Expr | None, *place: int) -> None:
        """See ``TileSums``."""
        assert start is None, "sums in two parts begin with 0"
        for part in (self._low, self._high):
            part.set(splat(0, "int32", self._lanes), *place)

    def add(self, a: Expr, b: Expr, *place: int) -> None:
        """See ``TileSums``."""
        some = multiply_pairs(a, b, self._lanes)
        upper = some >> splat(HALF_BITS, "int32", self._lanes)
        self._low.set(self._low.get(*place) + some, *place)
        self._high.set(self._high.get(*place) + upper, *place)

    def total(self, *place: int) -> Expr:
        """See ``TileSums``; integers that f64 holds."""
        low, high = self._low.get(*place), self._high.get(*place)
        rest = bits(low - (high << splat(HALF_BITS, "int32", self._lanes)), "uint32", self._lanes)
        unit = splat(1 << HALF_BITS, self._acc, self._lanes)
        upper, lower = (cast(part, self._acc, self._lanes) for part in (high, rest))
        return upper * unit + lower


def places(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """All places of accumulators, the last extent fastest."""
    return list(product(*(range(n) for n in shape)))


def sums_of(code: Code, dot: Dot, shape: Sequence[int], lanes: int) -> TileSums:
    """The accumulators of a tile."""
    return (SplitSums if dot.split else WholeSums)(code, dot, shape, lanes)
