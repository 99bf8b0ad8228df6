"""The end of a weight gradient: partial sums are added in order, scaled, rounded and put in place.

A job takes some vectors of g's channels and some channels of x; the numbers pass through a block
in cache, because the result has x's channels and taps together, the sums the channels of g.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ...gemm.shapes import shape4
from ...numbers.integers import integers
from ...tir.expr import Code, Expr, Index, load
from .epilogue import GemmBuffers, narrow, scalar_factor
from .slots import Slots
from .spec import GemmSpec
from .units import FLOAT64_END, fits
from .unpack import StoredTensor
from .vectors import Registers, cast, least, splat, split, store

BLOCK_VECTORS, BLOCK_ELEMENTS = 4, 4096


def sum_type(spec: GemmSpec) -> str:
    """Type of the partial sums: int64 where that of one could overflow over all pixels."""
    a, b = (integers(x.type.format) for x in (spec.a, spec.b))
    if spec.dot.acc == "float32" or a is None or b is None:
        return spec.dot.acc
    if spec.dot.split:
        held = spec.length * a.magnitude * b.magnitude < FLOAT64_END
    else:
        held = fits(spec.dot, a, b, spec.length)
    return spec.dot.acc if held else "int64"


@dataclass(frozen=True, slots=True)
class Partial:
    """Sums as [partition][group][tap row][tap column][channel of x][lane: channel of g]."""

    partitions: int
    groups: int
    taps: tuple[int, int]
    channels: int
    lanes: int
    dtype: str

    @property
    def elements(self) -> int:
        """Elements of one partition."""
        return self.groups * prod(self.taps) * self.channels * self.lanes

    def at(
        self, partition: Index, g: Index, tap: tuple[Index, Index], c: Index, lane: Index
    ) -> Index:
        """Where a vector of lanes begins."""
        place = ((partition * self.groups + g) * self.taps[0] + tap[0]) * self.taps[1] + tap[1]
        return (place * self.channels + c) * self.lanes + lane


@dataclass(frozen=True, eq=False, slots=True)
class Finish:
    """Turns partial sums into the stored result; the slots say which channel lies where."""

    code: Code
    spec: GemmSpec
    buffers: GemmBuffers
    partial: Partial
    g: Slots
    x: Slots
    vector: int

    @property
    def _taps(self) -> int:
        return prod(self.partial.taps)

    @property
    def _vectors(self) -> int:
        """Vectors of lanes in a job, a divisor of all."""
        count = self.partial.lanes // self.vector
        return max(v for v in range(1, BLOCK_VECTORS + 1) if count % v == 0)

    @property
    def _channels(self) -> int:
        """Channels of x in a job."""
        room = BLOCK_ELEMENTS // (self._taps * self._vectors * self.vector)
        return min(shape4(self.spec.out)[1], max(1, room))

    @property
    def _pitch(self) -> int:
        """Elements of a block's row; an odd number of cache lines, so that columns spread."""
        return (self._vectors + 1 - self._vectors % 2) * self.vector

    def emit(self, sums: Expr) -> None:
        """The loop over all jobs."""
        code, spec, vector = self.code, self.spec, self.vector
        channels = shape4(spec.out)[1]
        wide = self._vectors * vector
        jobs = (self.partial.groups, -(-channels // self._channels), self.partial.lanes // wide)
        size = self._taps * self._channels * self._pitch
        with (
            code.blocks(prod(jobs)) as job,
            code.workspace(spec.out.dtype, size) as block,
        ):
            g, c, v = split(job, *jobs)
            first = least(c * self._channels, channels - self._channels)
            with code.loop(self._taps) as tap, code.loop(self._channels) as i:
                to = (tap * self._channels + i) * self._pitch
                for j in range(self._vectors):
                    lane = v * wide + j * vector
                    value = self._value(sums, (g, lane, tap), self.x.slot(first + i))
                    store(code, block, to + j * vector, value, vector)
            self._place(block, (g, v * wide, first))

    def _value(self, sums: Expr, what: tuple[Expr, Index, Expr], slot: Index) -> Expr:
        """The stored vector of one tap and channel of x."""
        code, spec, vector = self.code, self.spec, self.vector
        g, lane, tap = what
        place = split(tap, *self.partial.taps)
        taps = (place[0], place[1])
        y = load(sums, self.partial.at(0, g, taps, slot, lane), vector)
        if self.partial.partitions > 1:
            total = Registers(code, (1,), self.partial.dtype, vector)
            total.set(y, 0)
            with code.loop(self.partial.partitions - 1) as p:
                at = self.partial.at(p + 1, g, taps, slot, lane)
                total.set(total.get(0) + load(sums, at, vector), 0)
            y = total.get(0)
        y = y if self.partial.dtype == "float32" else cast(y, "float32", vector)
        factor = scalar_factor(spec, self.buffers)
        if factor is not None:
            y = code.fence(y * splat(factor, "float32", vector), "float32", vector)
        return narrow(code, spec.out.type.format, y, vector)

    def _place(self, block: Expr, what: tuple[Expr, Expr, Index]) -> None:
        """Copy a block to the result, one lane after the other."""
        code, (g, begin, first) = self.code, what
        out_channels, channels, _, _ = shape4(self.spec.out)
        lanes = out_channels // self.partial.groups
        pixels = StoredTensor(self.buffers.out, self.spec.out).pixels
        with code.loop(self._vectors * self.vector) as i:
            lane = self.g.channel(begin + i)
            with code.when(lane < lanes):
                start = (g * lanes + lane) * (channels * self._taps)
                with code.loop(self._channels) as c, code.loop(self._taps) as tap:
                    channel = first + c
                    to = tap * channels + channel if pixels else channel * self._taps + tap
                    value = load(block, (tap * self._channels + c) * self._pitch + i)
                    code.store(self.buffers.out, start + to, value)
