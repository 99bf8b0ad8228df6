"""The end of a weight gradient: partial sums are added in order, scaled, rounded and put in place.

A job takes one vector of g's channels and some channels of x; the numbers pass through a block in
cache, because the result has x's channels and taps together, the sums the channels of g.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .tvm_expr import Code, Expr, Index, typed
from .tvm_gemm import GemmSpec
from .tvm_gemm_epilogue import Buffers, narrow, scalar_factor
from .tvm_gemm_ir import Registers, cast, least, load, parallel, splat, split, store
from .tvm_gemm_shapes import shape4
from .tvm_gemm_unpack import Operand, Unpacker

BLOCK_CHANNELS, BLOCK_ROWS = 16, 256


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
    """Turns partial sums into the stored result; the unpackers say which channel lies where."""

    code: Code
    spec: GemmSpec
    buffers: Buffers
    partial: Partial
    g: Unpacker
    x: Unpacker
    vector: int

    @property
    def channels(self) -> int:
        """Channels of x in a job."""
        return min(shape4(self.spec.out)[1], BLOCK_CHANNELS, max(1, BLOCK_ROWS // self._taps))

    @property
    def _taps(self) -> int:
        return prod(self.partial.taps)

    def emit(self, sums: Expr) -> None:
        """The loop over all jobs."""
        code, spec, vector = self.code, self.spec, self.vector
        channels = shape4(spec.out)[1]
        jobs = (spec.lane_groups, self.partial.lanes // vector, -(-channels // self.channels))
        size = self._taps * self.channels * vector
        with (
            parallel(code, prod(jobs)) as job,
            code.workspace(spec.out.dtype, size) as block,
        ):
            g, v, c = split(job, *jobs)
            first = least(c * self.channels, channels - self.channels)
            with code.loop(self._taps) as tap, code.loop(self.channels) as i:
                value = self._value(sums, (g, v, tap), self.x.slot(first + i))
                store(code, block, (tap * self.channels + i) * vector, value, vector)
            self._place(block, (g, v, first))

    def _value(self, sums: Expr, what: tuple[Expr, Expr, Expr], slot: Index) -> Expr:
        """The stored vector of one tap and channel of x."""
        code, spec, vector = self.code, self.spec, self.vector
        g, v, tap = what
        place = split(tap, *self.partial.taps)
        total = Registers(code, (1,), self.partial.dtype, vector)
        total.set(splat(0, self.partial.dtype, vector), 0)
        with code.loop(self.partial.partitions) as p:
            at = self.partial.at(p, g, (place[0], place[1]), slot, v * vector)
            total.set(total.get(0) + load(sums, at, vector), 0)
        y = total.get(0)
        y = y if self.partial.dtype == "float32" else cast(y, "float32", vector)
        factor = scalar_factor(spec, self.buffers)
        if factor is not None:
            y = code.fence(y * splat(factor, "float32", vector), typed("float32", vector))
        return narrow(code, spec.out.type.format, y, vector)

    def _place(self, block: Expr, what: tuple[Expr, Expr, Index]) -> None:
        """Copy a block to the result, one lane after the other."""
        code, (g, v, first) = self.code, what
        out_channels, channels, _, _ = shape4(self.spec.out)
        lanes = out_channels // self.spec.lane_groups
        pixels = Operand(self.buffers.out, self.spec.out).pixels
        with code.loop(self.vector) as i:
            lane = self.g.channel(v * self.vector + i)
            with code.when(lane < lanes):
                start = (g * lanes + lane) * (channels * self._taps)
                with code.loop(self.channels) as c, code.loop(self._taps) as tap:
                    c_first = first + c
                    to = tap * channels + c_first if pixels else c_first * self._taps + tap
                    value = load(block, (tap * self.channels + c) * self.vector + i)
                    code.store(self.buffers.out, start + to, value)
