"""What lowerings share: how a value of the IR stands in the graph, and how it is read there.

A carrier is a tensor of f32 numbers, rounded where the program rounds it to 16 bits. Codes are the
numbers that they stand for: a quantizer becomes a node that rounds and one that gives the numbers
back. Integers stay integers. Where products are exact (``exact``), codes are kept apart from their
scale until a product has been summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np

from ...compiler.errors import ExportError
from ...compiler.formats import Format
from ...compiler.ir import Op, Value
from ...compiler.types import Shape
from .builder import OnnxBuilder
from .elements import PLAIN, ElementType
from .graph import Array, Endpoint, WrittenNode

BATCH = "batch"
LEAST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class InGraph:
    """A value in the graph: tensors of numbers and, where these are apart, of their scale."""

    numbers: str
    scale: str | None = None
    per_channel: bool = False


class Unwritable(Exception):
    """Something that a dialect cannot say; who asked adds the layer and the op."""


class OnnxDialect(Protocol):
    """How a set of operations rounds to the levels of a format, and stores them."""

    def rounded(
        self, g: OnnxBuilder, x: str, scale: str, f: Format, ends: tuple[int, int], limits: Limits
    ) -> str:
        """Multiples of ``scale`` nearest to ``x``: codes ``ends[0] .. ends[1]`` of ``f``."""

    def rounded_float(self, g: OnnxBuilder, x: str, f: Format) -> str:
        """The nearest numbers of a float of 8 bits; saturates."""

    def narrowed(self, g: OnnxBuilder, x: str, f: Format) -> str:
        """Numbers of f32 rounded to a carrier of 16 bits."""

    def stored(self, g: OnnxBuilder, name: str, codes: Array, scale: Array, f: Format) -> str:
        """Constant codes times a scale, one or one a place of dimension 0.

        Of a float the codes are its bits.
        """


Limits = Callable[[str], str]
"""Clips to what the ends stand for; a dialect calls it where its own codes end elsewhere."""


class Context:
    """The graph while it is made: values of the program by what they are in it."""

    def __init__(
        self,
        builder: OnnxBuilder,
        dialect: OnnxDialect,
        constant: Callable[[Context, Value], InGraph],
        *,
        exact: bool,
        axes: Mapping[Value, int],
    ) -> None:
        """``constant`` makes what no op has made; ``axes``: dimensions that grow with the samples.

        They are those of all values that have a part of the batch, or none where it is fixed.
        """
        self.g, self.dialect, self.exact, self.axes = builder, dialect, exact, axes
        self.inputs: frozenset[Value] = frozenset()
        self.op: Op | None = None
        self._constant = constant
        self._held: dict[Value, InGraph] = {}
        self._real: dict[Value, str] = {}
        self._batch: str | None = None

    def enter(self, inputs: Sequence[Value]) -> None:
        """The program's inputs, under their names."""
        self.inputs = frozenset(inputs)
        for v in inputs:
            self.put(v, InGraph(v.name))

    def put(self, v: Value, held: InGraph) -> None:
        """What ``v`` is from here on."""
        self._held[v] = held
        self._real.pop(v, None)

    def held(self, v: Value) -> InGraph:
        """``v`` as it is in the graph."""
        if v not in self._held:
            self._held[v] = self._constant(self, v)
        return self._held[v]

    def real(self, v: Value) -> str:
        """Real numbers of ``v``, or its integers."""
        if v not in self._real:
            self._real[v] = self.times_scale(self.held(v), len(v.type.shape))
        return self._real[v]

    def times_scale(self, held: InGraph, rank: int) -> str:
        """The real numbers of what is held."""
        if held.scale is None:
            return held.numbers
        scale = self.column(held.scale, rank) if held.per_channel else held.scale
        return self.g.op("Mul", held.numbers, scale)

    def column(self, vector: str, rank: int) -> str:
        """One number a place of dimension 0, shaped to act on a tensor of ``rank`` dimensions."""
        return self.shaped(vector, (-1, *(1,) * (rank - 1)))

    def channels(self, vector: str, rank: int) -> str:
        """One number a place of dimension 1, likewise."""
        return self.shaped(vector, (1, -1, *(1,) * (rank - 2)))

    def shaped(self, x: str, shape: Shape) -> str:
        """In another shape, which has no part of the batch but where it says -1."""
        array = self.g.array(x)
        if array is not None:
            return self.g.constant(array.reshape(shape))
        return self.g.op("Reshape", x, self.g.ints(*shape))

    def target(self, v: Value, *ahead: int) -> str:
        """The shape of ``v`` for a Reshape: -1 where it grows with the samples.

        ``ahead`` are the sizes of more dimensions.
        """
        sizes = list(v.type.shape)
        if v in self.axes:
            sizes[self.axes[v]] = -1
        return self.g.ints(*ahead, *sizes)

    def sizes(self, v: Value) -> str:
        """The shape of ``v`` in numbers, as they are when the graph runs."""
        shape, axis = v.type.shape, self.axes.get(v)
        if axis is None:
            return self.g.ints(*shape)
        parts = [self.g.ints(*shape[:axis])] if axis else []
        parts.append(self._many(shape[axis]))
        parts += [self.g.ints(*shape[axis + 1 :])] if axis + 1 < len(shape) else []
        return self.g.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def _many(self, size: int) -> str:
        """A size that grows with the samples, as a vector of one integer."""
        first = next(v for v in self.axes if v in self.inputs)
        if self._batch is None:
            self._batch = self.g.op("Shape", first.name, start=0, end=1)
        times = size // first.type.shape[0]
        return self._batch if times == 1 else self.g.op("Mul", self._batch, self.g.ints(times))

    def beside(self, op: Op, i: int) -> str:
        """Operand ``i`` of an op that repeats its operands along dimensions.

        One that all samples share has a single sample where the result has many.
        """
        return self._single(op.inputs[i], op.result)

    def _single(self, v: Value, made: Value) -> str:
        name, axis = self.real(v), self.axes.get(made)
        at = -1 if axis is None else axis + len(v.type.shape) - len(made.type.shape)
        if v in self.axes or at < 0 or v.type.shape[at] == 1:
            return name
        array = self.g.array(name)
        if array is None:
            return self.g.op("Slice", name, *map(self.g.ints, (0, 1, at)))
        return self.g.constant(np.take(array, [0], axis=at))

    def fenced(self, x: str) -> str:
        """Behind a Max that changes nothing, which keeps onnxruntime from merging neighbours."""
        return self.g.op("Max", x, self.g.f32(LEAST))

    def whole(self, op: Op, i: int, like: Value) -> str:
        """Operand ``i``, of all samples also where it is shared."""
        v = op.inputs[i]
        if v in self.axes or like not in self.axes:
            return self.real(v)
        at = self.axes[like]
        sizes = list(v.type.shape)
        parts = [self.g.ints(n) for n in sizes]
        parts[at] = self._many(like.type.shape[at])
        return self.g.op("Expand", self._single(v, like), self.g.op("Concat", *parts, axis=0))

    @contextmanager
    def body(self) -> Iterator[list[WrittenNode]]:
        """Make a graph within the graph: its nodes, and for a while what values are in it."""
        held, real, batch = dict(self._held), dict(self._real), self._batch
        with self.g.body() as nodes:
            yield nodes
        self._held, self._real, self._batch = held, real, batch

    def port(self, v: Value, name: str) -> Endpoint:
        """An end of a graph; carriers of 16 bits are f32 there, as ``predict`` gives them."""
        element = PLAIN[v.type.format] if v.type.format.is_index else ElementType.FLOAT
        axis = self.axes.get(v)
        dims = tuple(BATCH if i == axis else n for i, n in enumerate(v.type.shape))
        return Endpoint(name, element, dims)

    def refuse(self, what: str) -> NoReturn:
        """Raise ExportError about the op that is being lowered."""
        raise ExportError(sentence(self.op, what))


def sentence(op: Op | None, what: str) -> str:
    """What is wrong with an op, and which layer it is of."""
    if op is None:
        return what
    layer = f"layer {op.origin!r}, " if op.origin else ""
    return f"{layer}op {op.kind} ({op.result.name}) {what}"


Lower = Callable[[Context, Op], "str | InGraph | tuple[str | None, ...]"]
"""Makes the nodes of an op; gives its result, not yet rounded to its carrier.

Of several results a tuple, with None for one that the graph has not.
"""
