"""Around the sums of a GEMM with an accumulator: planes with borders, operands as f32, results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.types import Scale
from ...gemm.shapes import shape4
from ...plan.layout import Layout
from ...tir.expr import Code, Expr, Vectors, i32, load, packed_place, ramp
from ...tir.formats import decode, from_memory, round_carrier, to_memory
from ...tir.pointwise.space import memory_dims, memory_strides
from ..gemm.epilogue import GemmBuffers
from ..gemm.spec import GemmSpec
from ..gemm.vectors import fill

ScratchPlace = Callable[[Expr, Expr, Expr, Expr], Expr]
"""Where an element lies in scratch memory, by its place along four dimensions."""


@dataclass(frozen=True, slots=True)
class BorderedAxis:
    """One dimension of a plane with its border.

    Number ``i`` of the operand is at ``start + i * spread``; result ``p`` and tap ``r`` meet at
    ``origin + p * step + r * tap``.
    """

    size: int
    start: int
    spread: int
    origin: int
    step: int
    tap: int

    def at(self, i: Expr) -> Expr:
        """The place of a number."""
        return i * i32(self.spread) + i32(self.start)


def axes(spec: GemmSpec) -> tuple[BorderedAxis, BorderedAxis]:
    """Rows and columns of the plane that taps look at: x in forward and dW, dY in dX."""
    weight_grad = spec.direction == "weight_grad"
    plane = shape4(spec.b if weight_grad else spec.a)[2:]
    places = shape4(spec.a if weight_grad else spec.out)[2:]
    taps = shape4(spec.out if weight_grad else spec.b)[2:]
    make = _scattered if spec.direction == "input_grad" else _bordered
    sides = zip(plane, places, taps, spec.stride, spec.padding, spec.dilation, strict=True)
    rows, columns = (make(*numbers) for numbers in sides)
    return rows, columns


def _bordered(
    size: int, places: int, taps: int, stride: int, padding: int, dilation: int
) -> BorderedAxis:
    reach = (places - 1) * stride + (taps - 1) * dilation + 1
    return BorderedAxis(max(reach, padding + size), padding, 1, 0, stride, dilation)


def _scattered(
    size: int, places: int, taps: int, stride: int, padding: int, dilation: int
) -> BorderedAxis:
    front = max(0, (taps - 1) * dilation - padding)
    reach = max((size - 1) * stride + 1, places + padding) + front
    return BorderedAxis(reach, front, stride, padding + front, 1, -dilation)


def lanes_of(spec: GemmSpec, count: int) -> int:
    """Lanes for ``count`` results side by side."""
    lanes = 16 if spec.cpu.vector_bytes == 64 else 8
    while lanes // 2 >= count:
        lanes //= 2
    return lanes


@contextmanager
def numbers(
    code: Code, buffer: Expr, layout: Layout, size: int, at: ScratchPlace
) -> Iterator[Expr]:
    """Scratch memory of ``size`` f32 that holds the stored numbers ``at`` their places, else 0."""
    dims, strides = memory_dims(layout), _row_strides(layout)
    shape = [layout.type.shape[d] for d in dims]
    v, f = Vectors(code, 1), layout.type.format
    bits = f.storage_bits
    with code.workspace("float32", size) as to:
        fill(code, to, 0, size, 0.0, 16)

        def some(done: dict[int, Expr]) -> None:
            if len(done) < len(dims):
                extent = shape[len(done)]
                with code.loop(extent) if done else code.blocks(extent) as i:
                    some({**done, dims[len(done)]: i})
                return
            part, place = packed_place(done[dims[-1]], layout.cell, layout.parts)
            row: Expr = i32(0)
            for d, stride in strides.items():
                row = row + done[d] * i32(stride)
            raw = tir.Cast("uint32", load(buffer, row * i32(layout.cell) + place))
            shift = tir.Cast("uint32", part * i32(bits))
            stored = (raw >> shift) & v.u((1 << bits) - 1)
            x = v.f(decode(v, v.hold(stored), f))
            code.store(to, at(done[0], done[1], done.get(2, i32(0)), done.get(3, i32(0))), x)

        some({})
        yield to


def _row_strides(layout: Layout) -> dict[int, int]:
    """Rows between neighbours along each dimension but the last one in memory."""
    strides, step = {}, 1
    for d in reversed(memory_dims(layout)[:-1]):
        strides[d] = step
        step *= layout.type.shape[d]
    return strides


@dataclass(frozen=True, eq=False, slots=True)
class Results:
    """What becomes of vectors of sums whose lanes lie along dimension 0 of the result."""

    v: Vectors
    spec: GemmSpec
    buffers: GemmBuffers

    def put(self, total: Expr, at: Mapping[int, Expr], room: Expr) -> None:
        """Scale, round and store the first ``room`` lanes; ``at`` is the place of lane 0."""
        v, out = self.v, self.spec.out
        code, stored = v.code, v.code.local(out.dtype, v.lanes)
        y = to_memory(v, self._number(total, at[1]), out.type.format)
        code.store(stored, ramp(0, v.lanes), y)
        strides = memory_strides(out)
        place: Expr = i32(0)
        for d, stride in strides.items():
            place = place + at[d] * i32(stride)
        with code.loop(tir.min(i32(v.lanes), room)) as i:
            code.store(self.buffers.out, place + i * i32(strides[0]), load(stored, i))

    def _number(self, total: Expr, channel: Expr) -> Expr:
        """The result in f32, rounded to its format."""
        v, spec = self.v, self.spec
        # A sum of zeros is plus zero.
        nothing = (v.bits(total) & v.u(0x7FFFFFFF)).equal(v.u(0))
        y = v.mul(v.f(v.where(nothing, v.splat(0.0), total)), v.splat(self._factor(channel)))
        y = round_carrier(v, y, spec.made)
        if spec.bias is not None:
            one, f = Vectors(v.code, 1), spec.bias.type.format
            bias = one.f(from_memory(one, load(self.buffers.bias, channel), f))
            y = round_carrier(v, v.add(y, v.splat(bias)), spec.out.type.format)
        return y

    def _factor(self, channel: Expr) -> Expr:
        """The product of both scales; that of ``b`` may differ from channel to channel."""
        one, by_channel = Vectors(self.v.code, 1), self.spec.b.type.scale is Scale.CHANNEL
        scales = (
            load(self.buffers.a_scale, 0),
            load(self.buffers.b_scale, channel if by_channel else 0),
        )
        a, b = (one.f(scale) for scale in scales)
        return one.mul(a, b)
