"""An evaluation program becomes a graph: what depends on no input is computed, the rest lowered.

Constants are computed by the reference, so that a weight's codes are in the file as they are after
the last step. Without state numbers stand in for them: whether a program can be written depends on
its ops, formats and shapes alone (``check_writable``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...compiler.errors import ExportError
from ...compiler.formats import F32
from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import gemms, without_dead
from ...compiler.ir.loops import ProgramLoops, loops
from ...compiler.ir.ops import OPS, Trait, having
from ...compiler.ir.samples import sample_axes
from ...compiler.types import Scale
from ..numbers.tensor import Tensor, dtype_of, scale_shape
from ..reference.evaluate import run_op
from .builder import OnnxBuilder
from .dialects import find_dialect
from .elements import PLAIN, ElementType
from .frame import Context, InGraph, Lower, sentence
from .gemm import GEMM
from .graph import Array, Endpoint, WrittenGraph
from .loop import LOOP, LoopWriter
from .norm import NORM
from .pointwise import POINTWISE
from .pool import POOL
from .quantize import QUANTIZE, stored
from .shape import SHAPE
from .whole import WHOLE

LOWERINGS: Mapping[str, Lower] = {
    **GEMM,
    **QUANTIZE,
    **NORM,
    **POINTWISE,
    **SHAPE,
    **WHOLE,
    **POOL,
    **LOOP,
}
# Their results are numbers of their operands, or 0 and 1, so that nothing is left to round.
CHOOSES = (
    *("relu", "maximum", "minimum", "where", "max", "broadcast", "abs", "sign", "compare"),
    *("compare_to", "max_pool2d", "adaptive_max_pool2d", "slice_grad"),
)
EXACT = having(Trait.MOVES) | frozenset(CHOOSES)
LARGEST = 1 << 31  # bytes of a file: what its format can count


@dataclass(frozen=True, slots=True)
class Written:
    """A graph, and what a person should know of it, a sentence each."""

    graph: WrittenGraph
    remarks: tuple[str, ...]


def write_graph(
    program: Program,
    state: Mapping[str, Array] | None,
    *,
    dialect: str = "qdq",
    exact: bool = False,
) -> Written:
    """The graph of an evaluation program with its state; ExportError where it cannot be written.

    ``state`` is None where the question is only whether it can.
    """
    spoken, live = find_dialect(dialect), without_dead(program)
    _check_draws(live)
    axes, found = _axes(live), loops(live)
    moving = _moving(live, found)
    builder = OnnxBuilder({v.name for v in (*live.inputs, *live.outputs, *moving)})
    context = Context(builder, spoken, _Constants(live, state).held, exact=exact, axes=axes)
    context.enter(live.inputs)
    writer = LoopWriter(live, found, _lower)
    for region in live.regions:
        for loop, ops in found.segments(region):
            if loop is not None:
                writer.write(context, loop, ops)
            for op in ops if loop is None else ():
                if op.result in moving:
                    _lower(context, op)
    outputs = tuple(_output(context, v, v in live.outputs[:i]) for i, v in enumerate(live.outputs))
    inputs = tuple(context.port(v, v.name) for v in live.inputs)
    graph = WrittenGraph(live.name, inputs, outputs, tuple(builder.nodes), builder.used())
    if graph.bytes >= LARGEST:
        raise ExportError(
            f"the constants of {live.name} take {graph.bytes:,} bytes; a file of ONNX holds less "
            f"than {LARGEST:,}"
        )
    return Written(graph, tuple(_remarks(live, axes)))


def check_writable(program: Program, *, dialect: str = "qdq") -> None:
    """Raise ExportError, in a moment and without any numbers, where ``write_graph`` would."""
    write_graph(program, None, dialect=dialect)


def _check_draws(program: Program) -> None:
    drawn = next((op for _, op in program.ops() if OPS[op.kind].random), None)
    if drawn is not None:
        raise ExportError(
            sentence(drawn, "draws random numbers, anew at each predict, which ONNX does not; "
                     "make it depend on the model's training mode")
        )  # fmt: skip


def _axes(program: Program) -> Mapping[Value, int]:
    samples = {v.type.shape[0] if v.type.shape else 0 for v in program.inputs}
    return (sample_axes(program, *samples) or {}) if len(samples) == 1 else {}


def _moving(program: Program, over: ProgramLoops) -> frozenset[Value]:
    """The values that depend on an input, or on a step."""
    found = {*program.inputs, *over.of}
    for _, op in program.ops():
        if not found.isdisjoint(op.inputs):
            found.update(op.results)
    return frozenset(found)


class _Constants:
    """Values that depend on no input, computed when one is asked for."""

    def __init__(self, program: Program, state: Mapping[str, Array] | None) -> None:
        self._producers, self._initial = program.producers(), program.initial
        self._state = state
        self._known: dict[Value, Tensor] = {}

    def held(self, c: Context, v: Value) -> InGraph:
        """The value as constants of the graph."""
        made = self._producers.get(v)
        if made is not None and v is not made.result and made.kind in POOL:
            c.refuse(f"reads the winners' places of {made.kind}, which the graph does not have")
        if made is not None and made.kind == "dequantize" and v.type.format is F32:
            return InGraph(c.real(made.inputs[0]))  # the codes are what is stored
        t = self._tensor(v)
        if v.type.format.is_coded:
            return stored(c, v.name, t)
        numbers = t.numbers
        name = c.g.constant(numbers, v.name if numbers.size > 1 else "")
        return InGraph(name, None if t.scale is None else c.g.constant(t.scale))

    def _tensor(self, v: Value) -> Tensor:
        if self._state is None:
            return _stand_in(v)
        if v not in self._known:
            op = self._producers.get(v)
            if op is None:
                self._known[v] = self._given(v, self._state)
            else:
                made = run_op(op, [self._tensor(i) for i in op.inputs])
                self._known.update(zip(op.results, made, strict=True))
        return self._known[v]

    def _given(self, v: Value, state: Mapping[str, Array]) -> Tensor:
        if v.name in state:
            return Tensor(v.type, np.asarray(state[v.name], dtype_of(v.type.format)), None)
        if v.name in self._initial:
            return Tensor.from_numbers(v.type, np.full(v.type.shape, self._initial[v.name]))
        raise ExportError(f"the state lacks {v.name}, which the evaluation program reads")


def _stand_in(v: Value) -> Tensor:
    """Numbers in the place of others, which take no memory."""
    data = np.broadcast_to(np.ones((), dtype_of(v.type.format)), v.type.shape)
    shape = scale_shape(v.type)
    return Tensor(v.type, data, None if shape is None else np.ones(shape, np.float32))


def _lower(c: Context, op: Op) -> None:
    c.op, c.g.layer = op, op.origin
    if op.kind not in LOWERINGS:
        c.refuse("has no counterpart in ONNX; write the model without it")
    first = len(c.g.nodes)
    made = LOWERINGS[op.kind](c, op)
    parts = made if isinstance(made, tuple) else (made,)
    for v, part in zip(op.results, parts, strict=True):
        if part is not None:
            held = part if isinstance(part, InGraph) else InGraph(part)
            c.put(v, _named(c, v, _rounded(c, op, v, held), first))


def _rounded(c: Context, op: Op, v: Value, held: InGraph) -> InGraph:
    """Numbers of a 16-bit carrier."""
    f = v.type.format
    if not f.is_carrier or PLAIN[f] is ElementType.FLOAT:
        return held
    if op.kind in EXACT and all(x.type.format is f for x in _floats(op)):
        return held
    return replace(held, numbers=c.dialect.narrowed(c.g, held.numbers, f))


def _floats(op: Op) -> Iterator[Value]:
    return (v for v in op.inputs if not v.type.format.is_index)


def _named(c: Context, v: Value, held: InGraph, first: int) -> InGraph:
    """The tensor under the name that the value has in the program, if it is new."""
    new = len(c.g.nodes) > first
    return replace(held, numbers=v.name) if new and c.g.rename(held.numbers, v.name) else held


def _output(c: Context, v: Value, again: bool) -> Endpoint:
    """Under its name; what is an input, or an output ``again``, needs another one."""
    c.op, c.g.layer = None, ""
    name, found = v.name, c.real(v)
    if again or v in c.inputs:
        name = c.g.fresh(f"{name}.output")
    if found != name:
        c.g.rename(c.g.op("Identity", found), name)
    return c.port(v, name)


def _remarks(program: Program, axes: Mapping[Value, int]) -> Iterator[str]:
    products = gemms(program)
    coded = [g for g in products if any(t.scale is not Scale.NONE for t in g.operands)]
    if coded:
        kinds = dict.fromkeys(" x ".join(g.formats) for g in coded)
        yield (
            f"{len(coded)} of {len(products)} products read codes ({', '.join(kinds)}); "
            "onnxruntime turns them into f32 and multiplies in f32"
        )
    if not axes:
        batch = " and ".join("x".join(map(str, v.type.shape)) for v in program.inputs)
        yield f"the batch is fixed at {batch}: the program does not keep samples apart"
