"""Numbers counted by their exponents on a GPU: a block for each exponent reads all of them."""

from __future__ import annotations

from tvm import tirx as tir

from ...compiler.ir.ops.measure import BINS
from ..tir.expr import Expr
from ..tir.single.exponent_bins import bin_of
from ..tir.single.grid import Single, Spot
from ..tir.single.loops import Buffers
from ..tir.single.total import add, read


def exponents(b: Buffers, spec: Single) -> None:
    """Counts are exact in f64; what one block reads the others find in the cache."""
    (x,), (y,) = spec.inputs, spec.outputs

    def one(k: Expr) -> None:
        def hit(s: Spot) -> list[Expr]:
            alike = bin_of(read(s, b.inputs[0], x, [x]), s.v).equal(k)
            return [tir.Select(alike, tir.const(1.0, "float64"), tir.const(0.0, "float64"))]

        (found,) = b.loops.line(x.type.elements, 1, hit, [add])
        b.code.store(b.outputs[0], k, tir.Cast(y.dtype, found))

    b.loops.rows(BINS, x.type.elements, one)
