"""Canonical form: no op whose results nothing needs, no cast from a format to itself.

What counts is what reaches the outputs or the next state; everything else is pure and can go.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.ir import Op, Program, Region, Value
from ..compiler.ir.analysis import without_dead


def canonicalize(program: Program) -> Program:
    """Remove dead ops and identity casts."""
    return without_dead(_without_identities(program)).done("canonicalize")


def _without_identities(program: Program) -> Program:
    swap: dict[Value, Value] = {}
    regions = []
    for region in program.regions:
        ops: list[Op] = []
        for old in region.ops:
            op = replace(old, inputs=tuple(swap.get(v, v) for v in old.inputs))
            if op.kind == "cast" and op.inputs[0].type == op.result.type:
                swap[op.result] = op.inputs[0]
            else:
                ops.append(op)
        regions.append(Region(region.name, tuple(ops)))
    return replace(
        program,
        regions=tuple(regions),
        outputs=tuple(swap.get(v, v) for v in program.outputs),
        next=tuple((s, swap.get(v, v)) for s, v in program.next),
    )
