"""The update of a learned clip: the step of the optimizer's first group, with another decay."""

from __future__ import annotations

from dataclasses import replace

from ...compiler.ir import Op, Program, Value, attrs, unused
from ...compiler.types import SCALAR
from .added_update import added_update


def clip_update(
    program: Program,
    layer: str,
    clip: Value,
    gradients: list[Value],
    decay: float,
    floor: float,
) -> Program:
    """Add gradients, an update and ``clamp_min`` for ``clip``, with optimizer state of its own.

    The program stays as it is where nothing is trained: no gradient, or no update to follow.
    """
    if not gradients:
        return program
    taken, ops = program.names(), list[Op]()
    total = gradients[0]
    for more in gradients[1:]:
        made = Value(unused(f"{clip.name}.grad", taken), SCALAR)
        ops.append(Op("add", (total, more), (made,), origin=layer))
        total = made
    step = added_update(program, layer, clip, total, taken, name=clip.name, decay=decay)
    if step is None:
        return program
    above = Value(unused(f"{clip.name}.next", taken), SCALAR)
    clamp = Op("clamp_min", (step.made,), (above,), attrs(low=float(floor)), layer)
    grown = program.with_state(dict.fromkeys((s for s, _ in step.kept), 0.0))
    grown = grown.append("update", (*ops, *step.ops, clamp))
    return replace(grown, next=(*grown.next, (clip, above), *step.kept))
