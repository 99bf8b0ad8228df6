"""Products: how the sums of a tile take in the products over taps and channels.

Kernels of the loops in ``taps`` differ in this alone; ``EachTap`` serves all but those of
``depthwise``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from ...gemm.geometry import Phase
from ...tir.expr import Code, Expr, Index, load
from .dots import multiply_add, repeated, word
from .taps_plan import TapsPlan
from .tile import Tile
from .vectors import Registers


@dataclass(frozen=True, eq=False, slots=True)
class Patch:
    """A tile of a band's results: pixels from place (y, x) of a phase on, and vectors of channels
    from a block of a group on."""

    group: Expr
    block: Index
    phase: Phase
    tile: Tile
    y: Index
    x: Index


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """What the dots of a band read: ``pixels`` in scratch, and the panel of ``weights``."""

    pixels: Expr
    weights: Expr


class Products(Protocol):
    """The products of a kernel."""

    def pixels(self, rows: Expr) -> AbstractContextManager[Expr]:
        """What the dots read of a band, made of its unpacked ``rows``."""

    def add(self, sums: Registers, factors: Factors, patch: Patch) -> None:
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

    def add(self, sums: Registers, factors: Factors, patch: Patch) -> None:
        """See ``Products``."""
        code, plan, dot, phase = self.code, self.plan, self.plan.spec.dot, patch.phase
        with (
            code.loop(phase.rows.taps) as i,
            code.loop(phase.columns.taps) as j,
            code.loop(plan.panel.turns) as turn,
        ):
            pixel = plan.pixel(phase, (patch.y, patch.x), (i, j))
            tap = (phase.rows.tap(i), phase.columns.tap(j))
            at = plan.panel.at(patch.group, patch.block, tap, turn)
            for m in range(patch.tile.pixels):
                start = (pixel + m * plan.rows.step[1]) * plan.pitch
                for v in range(patch.tile.vectors):
                    a = self._first(factors.pixels, start, patch, turn, v)
                    lanes = plan.vector * dot.block
                    b = load(factors.weights, at + v * lanes, lanes)
                    sums.set(multiply_add(dot, sums.get(m, v), a, b, plan.vector), m, v)

    def _first(self, pixels: Expr, start: Index, patch: Patch, turn: Expr, v: int) -> Expr:
        """The first operand at a pixel: a block of channels in all lanes, or lanes of channels."""
        plan, dot = self.plan, self.plan.spec.dot
        if plan.spec.depthwise:
            lane = plan.panel.first_lane(patch.block) + v * plan.vector
            return load(pixels, start + lane, plan.vector)
        offset = patch.group * plan.panel.length + turn * dot.block
        return repeated(dot, word(dot, pixels, start + offset), plan.vector)
