"""Canonical form: no op whose results nothing needs, no cast from a format to itself.

What counts is what reaches the outputs or the next state; everything else is pure and can go.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.ir import Op, Program, Region, Value


def canonicalize(program: Program) -> Program:
    """Remove dead ops and identity casts."""
    return _without_dead(_without_identities(program)).done("canonicalize")


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


def _without_dead(program: Program) -> Program:
    needed = {*program.outputs, *(v for _, v in program.next)}
    regions = []
    for region in reversed(program.regions):
        ops: list[Op] = []
        for op in reversed(region.ops):
            if needed.intersection(op.results):
                needed.update(op.inputs)
                ops.append(op)
        regions.append(Region(region.name, tuple(reversed(ops))))
    return replace(program, regions=tuple(reversed(regions)))
