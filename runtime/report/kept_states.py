"""What an optimizer keeps beside the parameters, in bytes: as it is stored, and as f32 would be."""

from __future__ import annotations

from ...compiler.ir import Program
from ...compiler.ir.ops import Trait, has
from ...compiler.ir.updates import KINDS
from ...passes.low_bit_states import CODES, SCALES
from ...targets.plan.layout import Layout, Order


def kept_states(captured: Program, program: Program) -> tuple[int, int]:
    """Bytes of what the updates of ``captured`` keep, as ``program`` stores it and as f32.

    By name, as a target may have put other ops in the place of an update.
    """
    state, stored, plain = {v.name: v.type for v in program.state}, 0, 0
    for _, op in captured.ops():
        if not has(op, Trait.UPDATE):
            continue
        for v in op.inputs[2 : 2 + len(KINDS[op.kind].kept)]:
            plain += 4 * v.type.elements
            names = (v.name, v.name + CODES, v.name + SCALES)
            stored += sum(Layout(state[n], Order.ROWS).bytes for n in names if n in state)
    return stored, plain
