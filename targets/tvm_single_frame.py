"""What the builders of single ops share: layouts, buffers, attributes, flat loops, scalars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tvm import tirx as tir

from ..compiler.ir import Attr
from .layout import Layout
from .tvm_expr import PARALLEL, SERIAL, Code, Expr, Vectors, function, i32, load, ramp
from .tvm_formats import from_memory, round_carrier, to_memory

CHUNK = 16384  # elements that make a block worth a thread's while


@dataclass(eq=False)
class Frame:
    """A kernel under construction; ``sources`` and ``results`` are the data buffers."""

    attrs: Mapping[str, Attr]
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    lanes: int
    code: Code = field(init=False)
    sources: list[Expr] = field(init=False)
    results: list[Expr] = field(init=False)

    def build(self, body: Builder) -> tir.PrimFunc:
        """The private function whose statements ``body`` appends."""
        layouts = (*self.inputs, *self.outputs)
        assert not any(x.scales for x in layouts), "single ops work on plain numbers"
        parameters = [(x.dtype, x.rows * x.cell) for x in layouts]

        def fill(code: Code, buffers: list[Expr]) -> None:
            self.code = code
            self.sources = buffers[: len(self.inputs)]
            self.results = buffers[len(self.inputs) :]
            body(self)

        return function(parameters, fill)

    def number(self, name: str) -> float:
        """A float or integer attribute."""
        value = self.attrs[name]
        assert isinstance(value, (int, float))
        return value

    def flag(self, name: str) -> bool:
        """A flag."""
        return bool(self.attrs[name])

    def read(self, v: Vectors, i: int, first: Expr) -> Expr:
        """f32 numbers of operand ``i``, ``v.lanes`` of them in memory order."""
        raw = load(self.sources[i], ramp(first, v.lanes))
        return v.f(from_memory(v, raw, self.inputs[i].type.format))

    def write(self, v: Vectors, i: int, first: Expr, x: Expr) -> None:
        """Round f32 numbers to the format of result ``i`` and store them."""
        f = self.outputs[i].type.format
        stored = to_memory(v, round_carrier(v, x, f), f)
        self.code.store(self.results[i], ramp(first, v.lanes), stored)

    def scalar(self, i: int) -> Expr:
        """The only number of operand ``i``, as f32."""
        return self.read(Vectors(self.code, 1), i, i32(0))

    def flat(self, size: int, body: Callable[[Vectors, Expr], None]) -> None:
        """Run ``body`` over 0 .. size - 1: blocks in parallel, vectors, single elements at the end.

        ``body`` gets the vector arithmetic of its width and the first index.
        """
        whole = size - size % self.lanes
        blocks = max(1, -(-whole // CHUNK))
        if whole:
            with self.code.loop(blocks, PARALLEL if blocks > 1 else SERIAL) as block:
                start = block * i32(CHUNK)
                count = tir.min(i32(CHUNK), i32(whole) - start)
                with self.code.loop(tir.floordiv(count, i32(self.lanes))) as j:
                    body(Vectors(self.code, self.lanes), start + j * i32(self.lanes))
        if size % self.lanes:
            with self.code.loop(size % self.lanes) as j:
                body(Vectors(self.code, 1), j + i32(whole))


Builder = Callable[[Frame], None]
