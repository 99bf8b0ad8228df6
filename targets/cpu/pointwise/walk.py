"""A way to walk the rows of a pointwise kernel; without packed values and as the base of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from ...tir.expr import Expr, Vectors, i32
from ...tir.pointwise.ops import RULES
from ...tir.pointwise.point import Frame, Point
from ...tir.pointwise.space import PointwiseSpec

Take: TypeAlias = Callable[[Point], None]
"""What reductions do with each point of a row."""

Enter: TypeAlias = Callable[[Expr], None]
"""What comes before the first row of a block."""


@dataclass(frozen=True, eq=False)
class Walk(ABC):
    """Evaluates and stores whole rows of a kernel, in vectors of ``lanes`` elements."""

    frame: Frame
    lanes: int

    @contextmanager
    def memory(self, blocks: int) -> Iterator[Enter]:
        """What the rows of so many blocks need beside the buffers lives inside the ``with``."""
        yield lambda block: None

    @abstractmethod
    def row(self, row: Expr, take: Take) -> None:
        """One row."""

    def write(self, p: Point) -> None:
        """Store the elements of a point, those of unpacked results."""
        for i in stored(self.frame.spec):
            if self.frame.spec.layout(i).parts == 1:
                p.write(i)


def stored(spec: PointwiseSpec) -> list[int]:
    """The results that have an element for each place."""
    return [i for i in spec.outputs if i in spec.whole]


def packed(spec: PointwiseSpec) -> list[int]:
    """The packed values, read and stored."""
    return [i for i in spec.whole if spec.layout(i).parts > 1]


def point(frame: Frame, lanes: int, row: Expr, first: Expr) -> Point:
    """A fresh point."""
    return Point(frame, Vectors(frame.code, lanes), row, first, RULES)


def points(frame: Frame, lanes: int, row: Expr) -> Iterator[Point]:
    """The points of a row, each inside its loop: vectors, then single elements."""
    code, channels = frame.code, frame.space.channels
    vectors, singles = divmod(channels, lanes)
    if vectors:
        with code.loop(vectors) as j:
            yield point(frame, lanes, row, j * i32(lanes))
    if singles:
        with code.loop(singles) as j:
            yield point(frame, 1, row, j + i32(channels - singles))


@dataclass(frozen=True, eq=False)
class PlainWalk(Walk):
    """Rows without packed values."""

    def row(self, row: Expr, take: Take) -> None:
        """See ``Walk``."""
        for p in points(self.frame, self.lanes, row):
            self.write(p)
            take(p)
