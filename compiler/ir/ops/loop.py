"""Loops over time steps: what starts one, takes values into it, from step to step, and out of it.

An op is in a loop where an operand is a value of each step: see ``compiler/ir/loops.py``.
"""

from __future__ import annotations

from ...types import BlockScale
from ..program import Op
from .definition import Extents, OpDef
from .kinds import mixed
from .signature import define
from .traits import Trait


def _part(op: Op, at: Extents) -> str:
    (rows,), (all_rows,) = at["N"], at["R"]
    if all_rows % rows:
        return f"{all_rows} rows are not those of several steps of {rows}"
    whole, one = (op.inputs[0], op.result)[:: 1 if op.kind == "rows_of_step" else -1]
    if whole.type.format != one.type.format or whole.type.scale != one.type.scale:
        return f"the rows of {whole.type} are none of {one.type}"
    if isinstance(one.type.scale, BlockScale):
        return f"numbers in blocks stay in a loop, and {one.type} are such"
    return mixed((op.inputs[0], op.result))


ENTERS, LEAVES = Trait.ENTERS_LOOP, Trait.LEAVES_LOOP
KEEPS, MOVES, SIGN = Trait.KEEPS_CARRIER, Trait.MOVES, Trait.KEEPS_SIGN

LOOP: tuple[OpDef, ...] = (
    define(
        "steps() {count: int >= 1, reverse: flag} -> t: int[]",
        "starts a loop: 0, 1, .. count - 1, one in each step, or the last one first",
    ),
    define(
        "rows_of_step(x: plain[R *S], t: int[]) -> y: plain[N *S]",
        "rows t N .. t N + N - 1 of x",
        KEEPS, MOVES, SIGN, ENTERS, check=_part,
    ),
    define(
        "carried(first: f32[*S], t: int[]) -> x: f32[*S]",
        "first; in the later steps what feed took in the step before",
        ENTERS,
    ),
    define(
        "feed(x: f32[*S], next: f32[*S]) -> last: f32[*S]",
        "lets a carried x be next in the step that follows; next of the last step",
        LEAVES,
    ),
    define(
        "all_steps(x: any[N *S], t: int[]) -> y: any[R *S]",
        "the values of x in all steps, by t, one behind the other",
        KEEPS, MOVES, SIGN, LEAVES, check=_part,
    ),
)  # fmt: skip
