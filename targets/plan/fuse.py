"""Fusion: which ops become one kernel.

Three kinds of group: a GEMM with the bias that follows it; pointwise ops over one shape with the
reductions that end in them; every other op alone. All ops of a group are in one loop, or in none.
A pointwise op joins the group that makes one of its operands when nothing between the two depends
on that group, so groups stay free of cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx as nx

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.loops import Loop, ProgramLoops, loops
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS, GEMMS, Trait, has
from ...compiler.types import Shape


@dataclass(frozen=True, slots=True)
class Group:
    """Ops that one kernel covers, in program order, and the values that are read outside.

    ``loop`` runs it once in each step.
    """

    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]
    region: str
    loop: Loop | None = None


@dataclass(eq=False, slots=True)
class _Open:
    """A group that may still grow."""

    ops: list[Op]
    shape: Shape | None
    finished: set[Value] = field(default_factory=set)


def fuse(program: Program, found: ProgramLoops | None = None) -> list[Group]:
    """Groups of all regions in an order in which they can run, those of a loop together.

    What a tail reduces is complete only when its group is.
    """
    found = found or loops(program)
    readers = program.readers()
    kept = {*program.outputs, *(v for _, v in program.next)}
    groups: list[Group] = []
    for region in program.regions:
        for loop, part in found.segments(region):
            for ops in _Fuser(readers).run(part):
                groups.append(Group(ops, _needed(ops, readers, kept), region.name, loop))
    return groups


def _needed(
    ops: tuple[Op, ...], readers: dict[Value, list[Op]], kept: set[Value]
) -> tuple[Value, ...]:
    inside = set(ops)
    return tuple(
        r
        for op in ops
        for r in op.results
        if r in kept or any(reader not in inside for reader in readers.get(r, ()))
    )


class _Fuser:
    def __init__(self, readers: dict[Value, list[Op]]) -> None:
        self.readers = readers
        self.home: dict[Value, _Open] = {}
        self.graph: nx.DiGraph[_Open] = nx.DiGraph()

    def run(self, ops: Sequence[Op]) -> list[tuple[Op, ...]]:
        order: list[_Open] = []
        for op in ops:
            group = self.find(op)
            if group is None:
                group = _Open([], self.shape(op))
                self.graph.add_node(group)
                order.append(group)
            self.place(op, group)
        rank = {g: i for i, g in enumerate(order)}
        ordered = nx.lexicographical_topological_sort(self.graph, key=rank.__getitem__)
        return [tuple(g.ops) for g in ordered]

    def shape(self, op: Op) -> Shape | None:
        """The shape a group with ``op`` runs over; None for ops that stay alone."""
        if has(op, Trait.TAIL):
            return op.inputs[0].type.shape
        if has(op, Trait.POINTWISE):
            return op.result.type.shape
        return op.result.type.shape if op.kind in GEMMS else None

    def place(self, op: Op, group: _Open) -> None:
        group.ops.append(op)
        for v in op.inputs:
            if v in self.home and self.home[v] is not group:
                self.graph.add_edge(self.home[v], group)
        for r in op.results:
            self.home[r] = group
            if has(op, Trait.TAIL) and r.type.shape != group.shape:
                group.finished.add(r)

    def find(self, op: Op) -> _Open | None:
        shape = self.shape(op)
        if shape is None or op.kind in GEMMS:
            return None
        makers = {self.home[v]: v for v in reversed(op.inputs) if v in self.home}
        return next((g for g, v in makers.items() if self.fits(op, g, v, shape)), None)

    def fits(self, op: Op, group: _Open, through: Value, shape: Shape) -> bool:
        if group.shape != shape or any(v in group.finished for v in op.inputs):
            return False
        if group.ops[0].kind in GEMMS:
            alone = len(self.readers[through]) == 1 and len(group.ops) == 1
            whole = group.ops[0].kind not in BETWEEN_ACTIVATIONS
            return op.kind == "add_bias" and alone and op.inputs[0] is through and whole
        others = {self.home[v] for v in op.inputs if v in self.home} - {group}
        return not any(nx.has_path(self.graph, group, other) for other in others)
