"""Operands of GEMMs in memory: the number at a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.types import Scale
from ...gemm.product import Product
from ...numbers.integers import unit_of
from ...plan.layout import Layout
from ...tir.expr import Code, Expr, Vectors, i32, load, packed_place, ramp
from ...tir.formats import decode, from_memory
from ...tir.pointwise.space import memory_dims


@dataclass(frozen=True, eq=False, slots=True)
class GemmSlots:
    """The slots of a GEMM kernel by role."""

    a: Expr
    a_scale: Expr | None
    b: Expr
    b_scale: Expr | None
    bias: Expr | None
    out: Expr
    scratch: tuple[Expr, ...]

    @classmethod
    def of(cls, spec: Product, slots: Sequence[Expr]) -> GemmSlots:
        """Take the slots in their order."""
        rest = iter(slots)
        a, a_scale = next(rest), next(rest) if spec.a.scales else None
        b, b_scale = next(rest), next(rest) if spec.b.scales else None
        bias = next(rest) if spec.bias else None
        return cls(a, a_scale, b, b_scale, bias, next(rest), tuple(rest))


@dataclass(frozen=True, eq=False, slots=True)
class StoredOperand:
    """A tensor in memory, of two or four dimensions."""

    code: Code
    buffer: Expr
    layout: Layout

    def address(self, place: Sequence[Expr]) -> tuple[Expr, Expr]:
        """Row of memory, and place in it, of N, C, H, W."""
        dims, shape = memory_dims(self.layout), self.layout.type.shape
        row: Expr = i32(0)
        for d in dims[:-1]:
            row = row * i32(shape[d]) + place[d]
        return row, place[dims[-1]]

    def put(self, place: Sequence[Expr], x: Expr, lanes: int = 1) -> None:
        """Store elements of a carrier that are neighbours."""
        row, at = self.address(place)
        self.code.store(self.buffer, ramp(row * i32(self.layout.cell) + at, lanes), x)

    def number(self, place: Sequence[Expr]) -> Expr:
        """The number without its scale, in f32."""
        v, f = Vectors(self.code, 1), self.layout.type.format
        row, at = self.address(place)
        if not f.is_coded:
            raw = load(self.buffer, row * i32(self.layout.cell) + at)
            return v.f(from_memory(v, raw, f))
        part, byte = packed_place(at, self.layout.cell, self.layout.parts)
        raw = load(self.buffer, row * i32(self.layout.cell) + byte)
        shift = tir.Cast("uint32", part * i32(f.storage_bits))
        code = (v.cast(raw, "uint32") >> shift) & v.u((1 << f.bits) - 1)
        return v.f(decode(v, v.hold(code), f))

    def integer(self, place: Sequence[Expr]) -> Expr:
        """The number in units of the smallest level, as i32."""
        v = Vectors(self.code, 1)
        unit = unit_of(self.layout.type.format)
        return v.cast(v.mul(self.number(place), v.splat(1.0 / unit)), "int32")


def factor(v: Vectors, spec: Product, slots: GemmSlots, channel: Expr) -> Expr:
    """What the sum of an output channel is multiplied with, an f32 name."""
    made: Expr = v.splat(1.0)
    for layout, scale in ((spec.a, slots.a_scale), (spec.b, slots.b_scale)):
        unit = unit_of(layout.type.format) if spec.in_integers else 1.0
        if spec.scaled_rows and layout is spec.b:
            continue
        one: Expr = v.splat(unit)
        if scale is not None:
            several = layout.type.scale is Scale.CHANNEL
            own = load(scale, channel, v.lanes) if several else v.splat(load(scale, i32(0)))
            one = v.mul(v.f(own), one)
        made = v.mul(made, one)
    return made
