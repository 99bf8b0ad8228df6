"""The launches of one op that is no fused group."""

from __future__ import annotations

from contextlib import suppress

from tvm import tirx as tir

from ..tir.expr import Expr, Vectors, i32, load
from ..tir.formats import from_memory
from ..tir.pointwise.space import memory_strides
from ..tir.single.grid import Spot, index_of, rounded
from ..tir.single.loops import Buffers
from ..tir.single.rules import RULES, buffers, parameters
from ..tir.single.shape import unravel
from ..tir.single.spec import Single
from .code import DeviceCode, Made, Maker
from .exponents import exponents
from .loops import THREADS, DeviceLoops, Finished


def build(spec: Single, numbers: int, make: Maker[Made]) -> list[Made]:
    """As many launches as the rule's loops need; one thread's where it has none.

    ``numbers`` is how many f64 numbers there is room for between them.
    """
    made: list[Made] = []
    count = 1
    while len(made) < count:
        one, needed = _launch(spec, numbers, len(made), make)
        made.append(one)
        count = max(count, needed)
    return made


def _launch(spec: Single, numbers: int, live: int, make: Maker[Made]) -> tuple[Made, int]:
    """Launch number ``live``, and how many the rule needs as far as it ran."""
    given, needed = list(parameters(spec).values()), 0
    scratch = [("float64", numbers)] if numbers else []

    def body(code: DeviceCode, pointers: list[Expr]) -> None:
        nonlocal needed
        loops = DeviceLoops(code, pointers[-1] if scratch else None, live)
        with suppress(Finished):
            BUILDERS[spec.kind](buffers(loops, spec, pointers[: len(given)]), spec)
        needed = loops.launches
        if not needed:
            code.threads = 1

    return make([*given, *scratch], THREADS, body), needed


def embedding_grad(b: Buffers, spec: Single) -> None:
    """A block for each row of the table adds the rows of g that belong there, in their order."""
    g, index = spec.inputs
    (dw,) = spec.outputs
    code, (rows, columns) = b.code, dw.type.shape
    padding, count = spec.op.int_attr("padding_index"), index.type.elements
    one, wide = Vectors(code, 1), Vectors(code, 1, "float64")
    where, strides = memory_strides(index), memory_strides(g)

    def row(r: Expr) -> None:
        def column(s: Spot) -> list[Expr]:
            j, sum_ = s.at[0], code.local("float64", 1)
            code.store(sum_, i32(0), wide.splat(0.0))
            with code.loop(count) as i:
                places = unravel(i, index.type.shape)
                named = tir.Cast("int32", load(b.inputs[1], index_of(places, where)))
                with code.when(tir.all(named.equal(r), tir.NE(r, i32(padding)))):
                    at = index_of({**places, len(places): j}, strides)
                    x = one.f(from_memory(one, load(b.inputs[0], at), g.type.format))
                    code.store(sum_, i32(0), load(sum_, i32(0)) + wide.cast(x, "float64"))
            x = one.f(wide.cast(load(sum_, i32(0)), "float32"))
            code.store(b.outputs[0], r * i32(columns) + j, rounded(one, x, dw.type.format))
            return []

        b.loops.line(columns, 1, column, [])

    b.loops.rows(rows, columns, row)


BUILDERS = {**RULES, "embedding_grad": embedding_grad, "exponents": exponents}
