"""Numbers counted by their exponents on a CPU: each block has counters of its own."""

from __future__ import annotations

from tvm import tirx as tir

from ...compiler.ir.ops.measure import BINS
from ..tir.expr import Expr, Vectors, i32, load, ramp
from ..tir.single.exponent_bins import bin_of
from ..tir.single.grid import Single, Spot
from ..tir.single.loops import Buffers
from ..tir.single.total import read
from .loops import BLOCK, MOST_BLOCKS

# Neighbours are often alike, and a counter that was just written is slow to read again.
WAYS = 4


def exponents(b: Buffers, spec: Single) -> None:
    """Counted in turn in one of several tables, which are added up at the end."""
    (x,), (y,), code = spec.inputs, spec.outputs, b.code
    elements, lanes = x.type.elements, spec.lanes
    blocks = max(1, min(MOST_BLOCKS, -(-elements // BLOCK)))
    each = -(-elements // blocks)
    with code.workspace("int32", blocks * WAYS * BINS) as counts:

        def bins(at: Expr, lanes: int) -> Expr:
            v = Vectors(code, lanes)
            return bin_of(read(Spot(v, {0: at}, 0), b.inputs[0], x, [x]), v)

        def count(which: Expr, table: Expr) -> None:
            to = table + which
            code.store(counts, to, load(counts, to) + i32(1))

        with code.blocks(blocks) as block:
            own = block * i32(WAYS * BINS)
            first = tir.min(block * i32(each), i32(elements))
            some = tir.min(first + i32(each), i32(elements)) - first
            with code.loop(WAYS * BINS) as i:
                code.store(counts, own + i, i32(0))
            turns = tir.floordiv(some, i32(lanes))
            some_bins = code.local("int32", lanes)
            with code.loop(turns) as turn:
                code.store(some_bins, ramp(0, lanes), bins(first + turn * i32(lanes), lanes))
                for k in range(lanes):
                    count(code.let(load(some_bins, i32(k)), "int32"), own + i32(k % WAYS * BINS))
            with code.loop(some - turns * i32(lanes)) as rest:
                count(bins(first + turns * i32(lanes) + rest, 1), own)
        with code.loop(BINS) as i:
            code.store(b.outputs[0], i, tir.const(0, y.dtype))
            with code.loop(blocks * WAYS) as table:
                more = tir.Cast(y.dtype, load(counts, table * i32(BINS) + i))
                code.store(b.outputs[0], i, load(b.outputs[0], i) + more)
