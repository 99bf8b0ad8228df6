"""The gradient of an embedding on a CPU: each thread owns columns of the table."""

from __future__ import annotations

from tvm import tirx as tir

from ..plan.layout import Layout
from ..tir.expr import Expr, Vectors, i32, load
from ..tir.formats import from_memory
from ..tir.pointwise.space import memory_strides
from ..tir.single.grid import Single, index_of, rounded
from ..tir.single.loops import Buffers
from ..tir.single.shape import unravel

COLUMNS = 64  # columns of a table that one thread owns


def embedding_grad(b: Buffers, spec: Single) -> None:
    """All rows of g are added there one after the other."""
    g, index = spec.inputs
    (dw,) = spec.outputs
    code, (rows, columns) = b.code, dw.type.shape
    padding, count = spec.op.int_attr("padding_index"), index.type.elements
    pieces = -(-columns // COLUMNS)
    v = Vectors(code, 1, "float64")
    with (
        code.blocks(pieces) as piece,
        code.workspace("float64", rows * COLUMNS) as sums,
    ):
        first = piece * i32(COLUMNS)
        width = tir.min(i32(COLUMNS), i32(columns) - first)
        with code.loop(rows * COLUMNS) as i:
            code.store(sums, i, v.splat(0.0))
        with code.loop(count) as i:
            row = code.let(tir.Cast("int32", load(b.inputs[1], _at(index, i))), "int32")
            inside = tir.all(tir.NE(row, i32(padding)), row >= i32(0), row < i32(rows))
            with code.when(inside), code.loop(width) as j:
                raw = load(b.inputs[0], _at(g, i * i32(columns) + first + j))
                number = from_memory(Vectors(code, 1), raw, g.type.format)
                to = row * i32(COLUMNS) + j
                code.store(sums, to, load(sums, to) + v.cast(number, "float64"))
        with code.loop(rows) as row, code.loop(width) as j:
            x = Vectors(code, 1).f(v.cast(load(sums, row * i32(COLUMNS) + j), "float32"))
            stored = rounded(Vectors(code, 1), x, dw.type.format)
            code.store(b.outputs[0], row * i32(columns) + first + j, stored)


def _at(layout: Layout, i: Expr) -> Expr:
    """Where the ``i``-th element in logical order lies."""
    return index_of(unravel(i, layout.type.shape), memory_strides(layout))
