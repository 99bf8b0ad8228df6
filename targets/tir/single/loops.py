"""How the turns of a single kernel are shared out: what its rules say, and each target does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ...plan.layout import Layout
from ..expr import Code, Expr
from .grid import Spot

Join: TypeAlias = Callable[[Expr, Expr], Expr]
Terms: TypeAlias = Callable[[Spot], Sequence[Expr]]


class Loops(Protocol):
    """The loops of one kernel.

    What a rule appends outside of them is one thread's, or the same in all.
    """

    @property
    def code(self) -> Code:
        """Where they are appended."""

    @property
    def aligned(self) -> bool:
        """Whether vectors must begin at multiples of their size."""

    def over(
        self,
        shape: Sequence[int],
        dims: Sequence[int],
        lanes: int,
        body: Callable[[Spot], None],
        each: int = 1,
    ) -> None:
        """Run ``body`` over a box, in any order, in vectors along the last of ``dims``.

        ``each`` numbers are read for a place. What stands behind in the rule sees all that ``body``
        stores.
        """

    def total(
        self,
        layouts: Sequence[Layout],
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float = 0.0,
    ) -> list[Expr]:
        """Join f64 ``terms``, each from ``start`` on, over all elements; f64 names.

        ``terms`` reads values of one shape with ``total.read``. The order is that of the shape.
        """

    def largest(self, values: Sequence[tuple[Expr, Layout]], lanes: int) -> Expr:
        """The largest bit pattern of a magnitude among the carriers, u32; of NaN it is larger."""

    def rows(self, count: int, length: int, body: Callable[[Expr], None]) -> None:
        """Run ``body`` for each of ``count`` rows of about ``length`` elements, in any order."""

    def line(
        self,
        count: int,
        lanes: int,
        terms: Terms,
        joins: Sequence[Join],
        start: float = 0.0,
        first: Expr | int = 0,
    ) -> list[Expr]:
        """Inside of ``rows``: join f64 ``terms`` over ``count`` elements of the row; f64 names.

        ``terms`` gets spots whose only dimension, 0, counts from ``first`` on. What stands behind
        sees all that they store.
        """

    def table(
        self, dtype: str, numbers: Sequence[float]
    ) -> AbstractContextManager[Callable[[Expr], Expr]]:
        """Constants by number."""


@dataclass(frozen=True, eq=False, slots=True)
class Buffers:
    """The buffers of a single kernel: data of operands and results, and their scales."""

    loops: Loops
    inputs: Sequence[Expr]
    outputs: Sequence[Expr]
    input_scales: Mapping[int, Expr]
    output_scales: Mapping[int, Expr]

    @property
    def code(self) -> Code:
        """Where a rule appends what it does."""
        return self.loops.code
