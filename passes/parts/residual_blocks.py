"""Residual blocks of a network, found in its graph: where a branch leaves and is added again.

x = the tensor through which everything before the block goes
y = relu(x' + f(x)), x' being x or a convolution of it
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import graph, macs
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS, FORWARD_GEMMS

START = "start"
WEIGHTED = FORWARD_GEMMS - BETWEEN_ACTIVATIONS


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """A block: its input, its output behind the ReLU, and its layers in program order."""

    x: Value
    y: Value
    layers: tuple[str, ...]
    macs: int


def residual_blocks(program: Program) -> tuple[ResidualBlock, ...]:
    """The blocks in program order; those whose input is no image, or no ReLU's, are left out."""
    forward = program.region("forward").ops
    made, flow = program.producers(), _data_flow(program, forward)
    if START not in flow:
        return ()
    dominators = nx.immediate_dominators(flow, START)
    found = []
    for op in forward:
        total = made.get(op.inputs[0]) if op.kind == "relu" else None
        if total is None or total.kind != "add" or total not in flow:
            continue
        source = dominators[total]
        if source == START or source.kind != "relu" or len(source.result.type.shape) != 4:
            continue
        inside = nx.descendants(flow, source) & nx.ancestors(flow, total)
        layers = [o for o in forward if o in inside and o.kind in WEIGHTED]
        if layers:
            names = tuple(dict.fromkeys(o.origin for o in layers))
            found.append(ResidualBlock(source.result, op.result, names, sum(map(macs, layers))))
    return tuple(found)


def _data_flow(program: Program, forward: tuple[Op, ...]) -> nx.DiGraph[Op]:
    """The forward ops that depend on the batch, behind one start."""
    whole = graph(program).subgraph(forward)
    given = set(program.inputs)
    roots = [op for op in forward if given.intersection(op.inputs)]
    reached = set(roots).union(*(nx.descendants(whole, r) for r in roots))
    flow = nx.DiGraph(whole.subgraph(reached))
    flow.add_edges_from((START, r) for r in roots)
    return flow
