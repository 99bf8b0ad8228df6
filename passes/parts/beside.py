"""Another computation of the same network in one program: same batch, same state, own values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...compiler.errors import RecipeError
from ...compiler.ir import Op, Program, Region, Value, unused


def beside(program: Program, other: Program, prefix: str) -> tuple[Program, Mapping[str, Value]]:
    """``program`` with all that ``other`` computes ahead of its update, and where to find it.

    Its ops stand ahead of those of ``program`` in forward and backward, and their results are
    called ``prefix`` and their name. Raises RecipeError where ``other`` reads state or inputs that
    ``program`` lacks or has in another format.
    """
    given = {v.name: v for v in (*program.inputs, *program.state)}
    taken = program.names()
    now: dict[Value, Value] = {}
    regions = []
    for region in program.regions:
        ops: tuple[Op, ...] = ()
        if region.name != "update":
            ops = tuple(
                _renamed(op, now, given, prefix, taken) for op in other.region(region.name).ops
            )
        regions.append(Region(region.name, (*ops, *region.ops)))
    made = replace(program, regions=tuple(regions))
    return made, {old.name: new for old, new in now.items()}


def _renamed(
    op: Op, now: dict[Value, Value], given: Mapping[str, Value], prefix: str, taken: set[str]
) -> Op:
    for v in op.inputs:
        if v not in now:
            now[v] = _found(v, given)
    for v in op.results:
        now[v] = Value(unused(f"{prefix}{v.name}", taken), v.type)
    return replace(
        op,
        inputs=tuple(now[v] for v in op.inputs),
        results=tuple(now[v] for v in op.results),
    )


def _found(v: Value, given: Mapping[str, Value]) -> Value:
    """The input or state of the same name and type."""
    held = given.get(v.name)
    if held is None or held.type != v.type:
        has = f"has it as {held.type}" if held else "does not"
        raise RecipeError(f"in f32 the step reads {v.name} : {v.type}; with this recipe it {has}")
    return held
