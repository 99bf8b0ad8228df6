"""Products: how the sums of a tile take in the products over taps and channels.

Kernels of the loops in ``taps`` differ in this alone; ``EachTap`` serves all but those of
``depthwise``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ...gemm.geometry import Phase
from ...tir.expr import Code, Expr, Index, load
from .dots import repeated, word
from .sums import Adding, ShortSums, TileSums
from .taps_plan import TapsPlan
from .tile import Tile


@dataclass(frozen=True, eq=False, slots=True)
class Patch:
    """A tile of a band's results: pixels from place (y, x) of a phase on, and vectors of channels
    from a block of a group on; ``weights`` is the group of the panel that they meet."""

    group: Index
    weights: Index
    block: Index
    phase: Phase
    tile: Tile
    y: Index
    x: Index


# A tap's row and column, and a block of summed channels.
SumPlace: TypeAlias = tuple[Index, Index, Index]
SumLoop: TypeAlias = tuple[Index, int]


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """What the dots of a band read: ``pixels`` in scratch, and the panel of ``weights``."""

    pixels: Expr
    weights: Expr


class Products(Protocol):
    """The products of a kernel."""

    def pixels(self, rows: Expr) -> AbstractContextManager[Expr]:
        """What the dots read of a band, made of its unpacked ``rows``."""

    def add(self, sums: TileSums, factors: Factors, patch: Patch) -> None:
        """Add all products to the sums of a patch."""


@dataclass(frozen=True, eq=False, slots=True)
class EachTap:
    """Tap after tap, block after block of summed channels."""

    code: Code
    plan: TapsPlan

    @contextmanager
    def pixels(self, rows: Expr) -> Iterator[Expr]:
        """See ``Products``: the rows themselves."""
        yield rows

    def add(self, sums: TileSums, factors: Factors, patch: Patch) -> None:
        """See ``Products``."""
        code, phase = self.code, patch.phase
        with (
            code.loop(phase.rows.taps) as i,
            code.loop(phase.columns.taps) as j,
            code.loop(self.plan.panel.turns) as turn,
        ):
            self._turn(sums, factors, patch, (i, j, turn))

    def _turn(self, sums: Adding, factors: Factors, patch: Patch, place: SumPlace) -> None:
        """Add the products of one tap and block of channels."""
        plan, dot, phase, (i, j, turn) = self.plan, self.plan.spec.dot, patch.phase, place
        pixel = plan.pixel(phase, (patch.y, patch.x), (i, j))
        tap = (phase.rows.tap(i), phase.columns.tap(j))
        at = plan.panel.at(patch.weights, patch.block, tap, turn)
        for m in range(patch.tile.pixels):
            start = (pixel + m * plan.rows.step[1]) * plan.pitch
            for v in range(patch.tile.vectors):
                a = self._first(factors.pixels, start, patch, turn, v)
                lanes = plan.vector * dot.block
                b = load(factors.weights, at + v * lanes, lanes)
                sums.add(a, b, m, v)

    def _first(self, pixels: Expr, start: Index, patch: Patch, turn: Index, v: int) -> Expr:
        """The first operand at a pixel: a block of channels in all lanes, or lanes of channels."""
        plan, dot = self.plan, self.plan.spec.dot
        if plan.spec.depthwise:
            lane = plan.panel.first_lane(patch.block) + v * plan.vector
            return load(pixels, start + lane, plan.vector)
        offset = patch.group * plan.panel.length + turn * dot.block
        return repeated(dot, word(dot, pixels, start + offset), plan.vector)


@dataclass(frozen=True, eq=False, slots=True)
class InRuns(EachTap):
    """The same by a dot that adds a run of products in int16: as many loops as a run holds."""

    def add(self, sums: TileSums, factors: Factors, patch: Patch) -> None:
        """See ``Products``."""
        code, phase, run = self.code, patch.phase, self.plan.spec.dot.run
        rows, columns, turns = phase.rows.taps, phase.columns.taps, self.plan.panel.turns
        if rows * columns * turns <= run:
            self._run(sums, factors, patch, ((0, rows), (0, columns), (0, turns)))
            return
        with code.loop(rows) as i:
            if columns * turns <= run:
                self._run(sums, factors, patch, ((i, 1), (0, columns), (0, turns)))
                return
            with code.loop(columns) as j:
                if turns <= run:
                    self._run(sums, factors, patch, ((i, 1), (j, 1), (0, turns)))
                    return
                whole = turns // run
                with code.loop(whole) as some:
                    self._run(sums, factors, patch, ((i, 1), (j, 1), (some * run, run)))
                if turns % run:
                    rest = (whole * run, turns % run)
                    self._run(sums, factors, patch, ((i, 1), (j, 1), rest))

    def _run(
        self,
        sums: TileSums,
        factors: Factors,
        patch: Patch,
        loops: tuple[SumLoop, SumLoop, SumLoop],
    ) -> None:
        """Add the products of a run: each loop has its first place and its turns."""
        code, tile = self.code, patch.tile
        short = ShortSums(code, (tile.pixels, tile.vectors), self.plan.vector)
        (i, rows), (j, columns), (first, turns) = loops
        with code.loop(rows) as r, code.loop(columns) as c, code.loop(turns) as turn:
            self._turn(short, factors, patch, (i + r, j + c, first + turn))
        short.join(sums)
