"""What passes over the update region share: the optimizer's ops, masks in the shape of a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import networkx as nx

from ...compiler.ir import OPTIMIZER_STEP, STEP, Op, Program, Region, Value, attrs, unused
from ...compiler.ir.analysis import graph
from ...compiler.ir.ops import Trait, has


def updates(program: Program, *, clips: bool = False) -> tuple[Op, ...]:
    """The updates of the model's parameters; with ``clips`` those that passes added too.

    A parameter's weight decay is an input of the program, a clip's own is a constant.
    """
    regions = {r.name: r for r in program.regions}
    ops = regions["update"].ops if "update" in regions else ()
    given = set(program.inputs)
    return tuple(op for op in ops if has(op, Trait.UPDATE) and (clips or op.inputs[-1] in given))


def optimizer_steps(program: Program) -> Value:
    """The count of the optimizer's steps: its own where it had taken some before the program's."""
    known = {v.name: v for v in program.state}
    return known.get(OPTIMIZER_STEP) or known[STEP]


def gradient(op: Op) -> Value:
    """The gradient that an update reads."""
    return op.inputs[1]


def widened(number: Value, like: Value, origin: str, taken: set[str]) -> tuple[Value, list[Op]]:
    """A single number repeated to the shape of ``like``, and the op that does it."""
    shape = like.type.shape
    if not shape:
        return number, []
    wide = Value(unused(f"{number.name}.wide", taken), like.type)
    dims = tuple(range(len(shape)))
    return wide, [Op("broadcast", (number,), (wide,), attrs(dims=dims), origin)]


def with_gradients(program: Program, changed: Mapping[Value, Value], ops: list[Op]) -> Program:
    """Let the updates that make certain weights read other gradients, which ``ops`` make."""

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.result not in changed:
            return None
        return (replace(op, inputs=(op.inputs[0], changed[op.result], *op.inputs[2:])),)

    return _in_order(program.rewrite(rule).append("update", tuple(ops)))


def _in_order(program: Program) -> Program:
    """The update region with each op behind what it reads, otherwise as it is."""
    ops = next(r.ops for r in program.regions if r.name == "update")
    place = {op: i for i, op in enumerate(ops)}
    flow = graph(program).subgraph(place)
    ordered = tuple(nx.lexicographical_topological_sort(flow, key=place.__getitem__))
    regions = tuple(replace(r, ops=ordered) if r.name == "update" else r for r in program.regions)
    return replace(program, regions=regions)
