"""Loops over time steps in a program: which values are of each step, and what runs where.

A loop is its counter, the result of ``steps``. Nothing marks the ops of a loop: one that reads a
value of each step makes such values, in the same loop.

    reads values of                          is in
    one loop of its region                   that loop
    several loops of its region              the last of them; of the others it reads the same step
    loops of an earlier region alone         the loop of its region that reads what it makes

A value of each step is read in a loop of as many steps, or by ops that leave the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .ops import Trait, has
from .program import Op, Program, Region, Value

COUNTER, CARRIED, FEED = "steps", "carried", "feed"


def is_border(op: Op) -> bool:
    """Whether an op stands at the border of a loop, and runs once."""
    return op.kind == COUNTER or has(op, Trait.ENTERS_LOOP) or has(op, Trait.LEAVES_LOOP)


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """A loop by its counter; ``index`` counts the loops of the program."""

    counter: Value
    count: int
    reverse: bool
    region: str
    index: int

    @property
    def order(self) -> Sequence[int]:
        """Its steps as they run."""
        steps = range(self.count)
        return steps[::-1] if self.reverse else steps


@dataclass(frozen=True, eq=False, slots=True)
class ProgramLoops:
    """The loops of a program: ``of`` are values of each step, ``feeds`` of what is carried."""

    of: Mapping[Value, Loop]
    body: Mapping[Op, Loop]
    feeds: Mapping[Value, Op] = field(default_factory=dict)

    def around(self, op: Op) -> Loop | None:
        """The loop that an op is in, also where a pass has changed its operands."""
        return None if is_border(op) else self.of.get(op.results[0])

    def times(self, op: Op) -> int:
        """How often an op runs."""
        loop = self.body.get(op)
        return loop.count if loop else 1

    def kept(self, v: Value) -> int:
        """Of how many steps there is a value."""
        return self.of[v].count if v in self.of else 1

    def segments(self, region: Region) -> Iterator[tuple[Loop | None, tuple[Op, ...]]]:
        """The ops of a region in an order in which all of a loop stand together."""
        if not any(op in self.body for op in region.ops):
            yield None, region.ops
            return
        # Here, as a step that is built runs without it.
        import networkx as nx

        nodes: dict[object, list[Op]] = {}
        for op in region.ops:
            nodes.setdefault(self.body.get(op, op), []).append(op)
        made = {r: self.body.get(op, op) for op in region.ops for r in op.results}
        ahead: nx.DiGraph[object] = nx.DiGraph()
        ahead.add_nodes_from(nodes)
        for node, ops in nodes.items():
            sources = {made[v] for op in ops for v in op.inputs if v in made}
            if isinstance(node, Op) and has(node, Trait.LEAVES_LOOP):
                # What is carried is made ahead of the loop, and is of all steps behind it.
                read = (self.of[v] for v in node.inputs if v in self.of)
                sources |= {loop for loop in read if loop in nodes}
            ahead.add_edges_from((source, node) for source in sources - {node})
            if isinstance(node, Op) and has(node, Trait.ENTERS_LOOP):
                # Also what no step reads is there ahead of the loop, which may write over it.
                ahead.add_edges_from(
                    (node, loop) for r in node.results if (loop := self.of.get(r)) in nodes
                )
        rank = {node: i for i, node in enumerate(nodes)}
        outside: list[Op] = []
        for node in nx.lexicographical_topological_sort(ahead, key=rank.__getitem__):
            if not isinstance(node, Loop):
                outside += nodes[node]
                continue
            if outside:
                yield None, tuple(outside)
            yield node, tuple(nodes[node])
            outside = []
        if outside:
            yield None, tuple(outside)


def loops(program: Program) -> ProgramLoops:
    """The loops of ``program``, which need not be verified yet."""
    if not any(op.kind == COUNTER for _, op in program.ops()):
        return ProgramLoops({}, {})
    found = _Membership()
    for region in program.regions:
        found.region(region)
    feeds = {op.inputs[0]: op for _, op in program.ops() if op.kind == FEED and op.inputs}
    return ProgramLoops(found.of, found.body, feeds)


class _Membership:
    """The values of each step so far."""

    def __init__(self) -> None:
        self.of: dict[Value, Loop] = {}
        self.body: dict[Op, Loop] = {}
        self.count = 0

    def region(self, region: Region) -> None:
        """Go through a region: forwards by what an op reads, then backwards by what reads it."""
        floating: list[Op] = []
        loose: set[Value] = set()
        for op in region.ops:
            if op.kind == COUNTER:
                self._start(op, region)
            elif has(op, Trait.ENTERS_LOOP):
                self._join(op, self.of.get(op.inputs[1]), body=False)
            elif not has(op, Trait.LEAVES_LOOP) and region.name != "update":
                read = [self.of[v] for v in op.inputs if v in self.of]
                own = [loop for loop in read if loop.region == region.name]
                if own:
                    self._join(op, max(own, key=lambda loop: loop.index))
                elif read or not loose.isdisjoint(op.inputs):
                    floating.append(op)
                    loose.update(op.results)
        self._settle(region, floating)

    def _start(self, op: Op, region: Region) -> None:
        count, reverse = op.int_attr("count"), op.bool_attr("reverse")
        self.of[op.result] = Loop(op.result, count, reverse, region.name, self.count)
        self.count += 1

    def _join(self, op: Op, loop: Loop | None, *, body: bool = True) -> None:
        if loop is None:
            return
        self.of.update(dict.fromkeys(op.results, loop))
        if body:
            self.body[op] = loop

    def _settle(self, region: Region, floating: Sequence[Op]) -> None:
        """Put ops that read steps of earlier regions alone into the loops that read them."""
        readers: dict[Value, Op] = {}
        for op in reversed(region.ops):
            readers.update(dict.fromkeys(op.inputs, op))
        for op in reversed(floating):
            first = [readers[r] for r in op.results if r in readers]
            inside = [self.body[r] for r in first if r in self.body]
            inside += [self.of[r.inputs[1]] for r in first if has(r, Trait.LEAVES_LOOP)]
            self._join(op, next((loop for loop in inside), None))
