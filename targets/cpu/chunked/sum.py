"""Sums in an accumulator, in generated code: each addition in f32, then to the nearest number.

That this is one rounding, ``compiler/ir/accumulation.py`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx as tir

from ....compiler.formats import F16, HalfFloat
from ....compiler.ir.accumulation import Accumulation
from ...tir.expr import Expr, Vectors, i32
from ...tir.formats import INFINITY, SIGN, f32_bits, round_carrier
from ..gemm.vectors import Registers

ProductsAt = Callable[[Expr], Sequence[Expr]]
"""The products number ``i`` of several sums, exact in f32."""


def chunked_sums(
    v: Vectors, how: Accumulation, length: int, sums: int, products: ProductsAt
) -> list[Expr]:
    """``sums`` vectors of sums of ``length`` products each, as f32 names."""
    code, size = v.code, how.chunk_of(length)
    part, total = (Registers(code, (sums,), "float32", v.lanes) for _ in range(2))

    def add(to: Registers, j: int, x: Expr) -> None:
        to.set(_rounded(v, v.add(to.get(j), x), how.numbers), j)

    for j in range(sums):
        total.set(v.splat(0.0), j)
    with code.loop(-(-length // size)) as chunk:
        for j in range(sums):
            part.set(v.splat(0.0), j)
        with code.loop(tir.min(i32(size), i32(length) - chunk * i32(size))) as i:
            for j, product in enumerate(products(chunk * i32(size) + i)):
                add(part, j, product)
        for j in range(sums):
            add(total, j, part.get(j))
    return [v.f(total.get(j)) for j in range(sums)]


def _rounded(v: Vectors, x: Expr, to: HalfFloat) -> Expr:
    """The number of a 16-bit float nearest to an f32 name."""
    f = to.format
    if f == F16:
        return round_carrier(v, x, f)
    assert f.radix == 2 and f.shift == 1 and not f.subnormals, f"{f} has no arithmetic rounding"
    shift = 23 - f.man
    size = v.hold(v.bits(x) & v.u(0x7FFFFFFF))
    odd = (size >> v.u(shift)) & v.u(1)
    whole = (size + (odd + v.u((1 << (shift - 1)) - 1))) & v.u(0xFFFFFFFF << shift & 0xFFFFFFFF)
    whole = v.hold(whole)
    small = v.where(
        size > v.u(f32_bits(to.least / 2)), tir.max(whole, v.u(f32_bits(to.least))), v.u(0)
    )
    # NaN is what lies above infinity, and stays.
    large = tir.max(size, v.u(INFINITY))
    number = v.where(whole > v.u(f32_bits(to.top)), large, small)
    return v.f(v.to_f(number | (v.bits(x) & v.u(SIGN))))
