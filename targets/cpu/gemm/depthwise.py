"""Depthwise forward and dX GEMMs on int16 dots: two taps of a row in one instruction.

Channels lie in the lanes of both operands, so the two products that ``vpdpwssd`` adds are of two
taps that read pixels ``distance`` apart: scratch holds such pairs of pixels as words of two int16,
and a word of weights is put together where it is used. The last of an odd number of taps meets 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, load
from ..dialect import function
from .dots import multiply_add
from .epilogue import GemmBuffers
from .geometry import Axis, Tile
from .spec import GemmSpec, ways
from .taps import Taps, depthwise_sums
from .units import ON_INT16_DOT
from .vectors import Registers, bits, cast, splat, store, vectors

HALF = 16  # bits
PIXELS = 8


def _build(spec: GemmSpec) -> tir.PrimFunc:
    def body(code: Code, slots: list[Expr]) -> None:
        DepthwisePairs(code, spec, GemmBuffers.of(spec, slots)).emit()

    return function(spec.parameters, body)


DEPTHWISE_PAIRS = ways("pairs of depthwise taps", depthwise_sums, (ON_INT16_DOT,), _build)


class DepthwisePairs(Taps):
    """The pieces of one kernel."""

    def __init__(self, code: Code, spec: GemmSpec, buffers: GemmBuffers) -> None:
        super().__init__(code, spec, buffers)
        slopes = {abs(axis.slope) for axis in self.geo.columns.phases if axis.taps > 1}
        # All phases of a convolution have the same slope.
        self.distance = max(slopes, default=1) // self.rows.skip[1]

    def tile(self, places: int, lanes: int) -> Tile:
        """See ``Taps``: pixels of one vector of channels, whose weights stay in registers too."""
        turns = -(-places // PIXELS)
        return Tile(-(-places // turns), 1)

    @property
    def pixel_bytes(self) -> int:
        """See ``Taps``; pairs take words of four bytes."""
        return super().pixel_bytes + 4 * self.pitch

    @property
    def beyond(self) -> int:
        """See ``Taps``: the last pixels have partners too."""
        return super().beyond + self.distance * self.pitch

    @contextmanager
    def operand(self, rows: Expr) -> Iterator[Expr]:
        """Each pixel beside the one ``distance`` further."""
        size, partner = self.band_elements, self.distance * self.pitch
        with self.code.workspace("int32", size + self.vector) as pairs:

            def pair(i: Index, lanes: int) -> None:
                near, far = (
                    cast(bits(load(rows, i + d, lanes), "uint16", lanes), "uint32", lanes)
                    for d in (0, partner)
                )
                store(self.code, pairs, i, bits(_word(near, far, lanes), "int32", lanes), lanes)

            vectors(self.code, size, self.vector, pair)
            yield pairs

    def products(
        self,
        sums: Registers,
        memory: tuple[Expr, Expr],
        what: tuple[Index, Index],
        axes: tuple[Axis, Axis],
        where: tuple[Tile, tuple[Index, Index]],
    ) -> None:
        """See ``Taps``."""
        code, taps = self.code, axes[1].taps
        with code.loop(axes[0].taps) as i:
            if taps > 1:
                with code.loop(taps // 2) as j:
                    two = (2 * j, 2 * j + 1) if axes[1].slope > 0 else (2 * j + 1, 2 * j)
                    self._pair(sums, memory, what, axes, where, (i, two))
            if taps % 2:
                self._pair(sums, memory, what, axes, where, (i, (taps - 1,)))

    def _pair(
        self,
        sums: Registers,
        memory: tuple[Expr, Expr],
        what: tuple[Index, Index],
        axes: tuple[Axis, Axis],
        where: tuple[Tile, tuple[Index, Index]],
        tap: tuple[Index, tuple[Index, ...]],
    ) -> None:
        """Add the products of one tap, or of two that read pixels one after the other."""
        (pairs, weights), (tile, place), (i, columns) = memory, where, tap
        pixel = self.scratch_pixel(axes, place, (i, columns[0]))
        lane, lanes = self.panel.first_lane(what[1]), self.vector
        for v in range(tile.vectors):
            b = self._weights(weights, [self.weights_at(what, axes, (i, j)) for j in columns], v)
            for m in range(tile.pixels):
                start = (pixel + m * self.rows.step[1]) * self.pitch + lane + v * lanes
                a = bits(load(pairs, start, lanes), self.dot.a, 2 * lanes)
                sums.set(multiply_add(self.dot, sums.get(m, v), a, b, lanes), m, v)

    def _weights(self, weights: Expr, starts: list[Index], v: int) -> Expr:
        """Words of the weights of one or two taps; the panel has each beside a 0."""
        lanes = self.vector
        words = [
            bits(load(weights, start + 2 * v * lanes, 2 * lanes), "uint32", lanes)
            for start in starts
        ]
        word = _word(words[0], words[1], lanes) if len(words) > 1 else words[0]
        return bits(word, self.dot.b, 2 * lanes)


def _word(near: Expr, far: Expr, lanes: int) -> Expr:
    """Two numbers below 2^16 as one word."""
    return near | tir.shift_left(far, splat(HALF, "uint32", lanes))
