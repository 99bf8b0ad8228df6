"""Depthwise forward and dX GEMMs on int16 dots: two taps of a row in one instruction.

Channels lie in the lanes of both operands, so the two products that ``vpdpwssd`` adds are of two
taps that read pixels ``partner`` apart: scratch holds such pairs of pixels as words of two int16,
and a word of weights is put together where it is used. The last of an odd number of taps meets 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, load
from ..dialect import function
from .epilogue import GemmBuffers
from .products import Factors, Patch
from .spec import GemmSpec
from .sums import TileSums
from .taps import emit_taps
from .taps_plan import TapsPlan, plan_taps
from .vectors import bits, cast, splat, store, vectors

HALF = 16  # bits


def build_depthwise_pairs(spec: GemmSpec) -> tir.PrimFunc:
    """The function of a depthwise forward or dX GEMM whose dot takes two taps."""

    def body(code: Code, slots: list[Expr]) -> None:
        plan = plan_taps(spec, pairs=True)
        emit_taps(code, plan, GemmBuffers.of(spec, slots), TapPairs(code, plan))

    return function(spec.parameters, body)


@dataclass(frozen=True, eq=False, slots=True)
class TapPairs:
    """The ``Products`` of two taps of a row at once."""

    code: Code
    plan: TapsPlan

    @contextmanager
    def pixels(self, rows: Expr) -> Iterator[Expr]:
        """See ``Products``: each pixel beside its partner."""
        plan, widest = self.plan, self.plan.vector
        size, partner = plan.band_elements, plan.partner * plan.pitch
        with self.code.workspace("int32", size + widest) as pairs:

            def pair(i: Index, lanes: int) -> None:
                near, far = (
                    cast(bits(load(rows, i + d, lanes), "uint16", lanes), "uint32", lanes)
                    for d in (0, partner)
                )
                store(self.code, pairs, i, bits(_word(near, far, lanes), "int32", lanes), lanes)

            vectors(self.code, size, widest, pair)
            yield pairs

    def add(self, sums: TileSums, factors: Factors, patch: Patch) -> None:
        """See ``Products``."""
        code, columns = self.code, patch.phase.columns
        with code.loop(patch.phase.rows.taps) as i:
            if columns.taps > 1:
                with code.loop(columns.taps // 2) as j:
                    two = (2 * j, 2 * j + 1) if columns.slope > 0 else (2 * j + 1, 2 * j)
                    self._add_some(sums, factors, patch, i, two)
            if columns.taps % 2:
                self._add_some(sums, factors, patch, i, (columns.taps - 1,))

    def _add_some(
        self,
        sums: TileSums,
        factors: Factors,
        patch: Patch,
        row: Expr,
        columns: tuple[Index, ...],
    ) -> None:
        """Add the products of one tap, or of two that read pixels one after the other."""
        plan, panel, lanes, dot = self.plan, self.plan.panel, self.plan.vector, self.plan.spec.dot
        pixel = plan.pixel(patch.phase, (patch.y, patch.x), (row, columns[0]))
        lane = panel.first_lane(patch.block)
        taps = [(patch.phase.rows.tap(row), patch.phase.columns.tap(j)) for j in columns]
        starts = [panel.at(patch.weights, patch.block, tap, 0) for tap in taps]
        for v in range(patch.tile.vectors):
            b = self._weights(factors.weights, starts, v)
            for m in range(patch.tile.pixels):
                start = (pixel + m * plan.rows.step[1]) * plan.pitch + lane + v * lanes
                a = bits(load(factors.pixels, start, lanes), dot.a, 2 * lanes)
                sums.add(a, b, m, v)

    def _weights(self, weights: Expr, starts: list[Index], v: int) -> Expr:
        """Words of the weights of one or two taps; the panel has each beside a 0."""
        lanes = self.plan.vector
        words = [
            bits(load(weights, start + 2 * v * lanes, 2 * lanes), "uint32", lanes)
            for start in starts
        ]
        word = _word(words[0], words[1], lanes) if len(words) > 1 else words[0]
        return bits(word, self.plan.spec.dot.b, 2 * lanes)


def _word(near: Expr, far: Expr, lanes: int) -> Expr:
    """Two numbers below 2^16 as one word."""
    return near | tir.shift_left(far, splat(HALF, "uint32", lanes))
