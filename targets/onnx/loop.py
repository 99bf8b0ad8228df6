"""Loops over time steps in ONNX: a Scan for each, with the ops of one step as its body.

in the program                       in the graph
value of each step, in its loop      what the body makes of one step
the same, outside of the loop        all steps, stacked along a first dimension
carried, and what feeds it           a state of the Scan, and its last value
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.loops import FEED, Loop, ProgramLoops
from .frame import Context, InGraph, Lower
from .graph import ONNX, Endpoint, WrittenGraph

LowerOp = Callable[[Context, Op], None]


@dataclass(frozen=True, slots=True)
class LoopWriter:
    """The loops of a program, which become nodes one after another."""

    program: Program
    found: ProgramLoops
    lower: LowerOp

    def write(self, c: Context, loop: Loop, body: Sequence[Op]) -> None:
        """One loop as a node; afterwards its values are there as outsiders read them."""
        carried = [x for x in self.found.feeds if self.found.of[x] is loop]
        read = self._read(loop, body) or [loop.counter]  # a Scan counts its steps by what it reads
        kept = self._kept(loop, body)
        states = [c.real(x) for x in carried]
        stacks = [c.real(v) for v in read]
        hold_constants(c, self.found, body)
        with c.body() as nodes:
            inputs = [self._bind(c, v) for v in (*carried, *read)]
            for op in body:
                self.lower(c, op)
            after = (self.found.feeds[x].inputs[1] for x in carried)
            made = [_leave(c, v) for v in (*after, *kept)]
        self._at_counter(c, loop)
        if any(n.domain != ONNX for n in nodes):
            c.refuse("starts a loop, whose body has no quantizers in this dialect; use qdq")
        title = f"{loop.counter.name}.body"
        graph = WrittenGraph(title, tuple(inputs), tuple(made), tuple(nodes))
        ends = c.g.node(
            "Scan",
            (*states, *stacks),
            {
                "num_scan_inputs": len(read),
                "scan_input_directions": (int(loop.reverse),) * len(read),
                "scan_output_directions": (int(loop.reverse),) * len(kept),
            },
            outputs=len(made),
            body=graph,
        )
        lasts = (self.found.feeds[x].result for x in carried)
        for v, name in zip((*lasts, *kept), ends, strict=True):
            c.put(v, InGraph(name))

    def _at_counter(self, c: Context, loop: Loop) -> None:
        """What is made or refused next is of the loop as a whole."""
        c.op = self.program.producers()[loop.counter]
        c.g.layer = c.op.origin

    def _read(self, loop: Loop, body: Sequence[Op]) -> list[Value]:
        """Values of each step that the body reads and neither makes nor carries."""
        own = {r for op in body for r in op.results} | set(self.found.feeds)
        return [
            v
            for v in dict.fromkeys(v for op in body for v in op.inputs)
            if v in self.found.of and (v not in own or self.found.of[v] is not loop)
        ]

    def _kept(self, loop: Loop, body: Sequence[Op]) -> list[Value]:
        """Values of the loop that others read, but for what feeds it."""
        inside = set(body)
        outside = (op for _, op in self.program.ops() if op not in inside and op.kind != FEED)
        own = {r for op in body for r in op.results}
        own |= {x for x in self.found.feeds if self.found.of[x] is loop}
        return [v for v in dict.fromkeys(v for op in outside for v in op.inputs) if v in own]

    def _bind(self, c: Context, v: Value) -> Endpoint:
        """An input of the body, which stands for ``v`` there."""
        name = c.g.fresh(f"{v.name}.step")
        c.put(v, InGraph(name))
        return c.port(v, name)


def _leave(c: Context, v: Value) -> Endpoint:
    """An output of the body, which nothing else is."""
    name = c.g.fresh(f"{v.name}.step")
    c.g.rename(c.g.op("Identity", c.real(v)), name)
    return c.port(v, name)


def hold_constants(c: Context, found: ProgramLoops, body: Sequence[Op]) -> None:
    """Make what a body reads of constants ahead of its loop, and not in each step."""
    for op in body:
        c.op, c.g.layer = op, op.origin
        for v in op.inputs:
            if v not in found.of:
                c.held(v)


def steps(c: Context, op: Op) -> str:
    """0, 1, .. of all steps; which comes first is the loop's affair."""
    return c.g.constant(np.arange(op.int_attr("count"), dtype=np.int64))


def rows_of_step(c: Context, op: Op) -> str:
    """All of them, stacked."""
    x, y = op.inputs[0], op.result
    count = x.type.shape[0] // y.type.shape[0]
    return c.g.op("Reshape", c.real(x), c.target(y, count))


def carried(c: Context, op: Op) -> str:
    """What it is in the first step."""
    return c.whole(op, 0, op.result)


def feed(c: Context, op: Op) -> InGraph:
    """What the loop left."""
    return c.held(op.result)


def all_steps(c: Context, op: Op) -> str:
    """The stacked ones, behind one another."""
    return c.g.op("Reshape", c.real(op.inputs[0]), c.target(op.result))


LOOP: dict[str, Lower] = {
    "steps": steps,
    "rows_of_step": rows_of_step,
    "carried": carried,
    "feed": feed,
    "all_steps": all_steps,
}
