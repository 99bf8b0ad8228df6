"""Sums in an accumulator, in generated code: each addition in f32, then to the nearest number.

That this is one rounding, ``compiler/ir/accumulation.py`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx as tir

from ....compiler.ir.accumulation import Accumulation
from ...tir.expr import Expr, Vectors, i32
from ...tir.half import rounded
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
        to.set(rounded(v, v.add(to.get(j), x), how.numbers), j)

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
