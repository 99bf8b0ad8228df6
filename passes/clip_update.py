"""The update of a learned clip: the step of the optimizer's first group, with another decay."""

from __future__ import annotations

from dataclasses import replace

from ..compiler.formats import F32
from ..compiler.ir import Op, Program, Value, attrs, unused
from ..compiler.types import TensorType
from .names import part

SCALAR = TensorType((), F32)


def clip_update(
    program: Program,
    layer: str,
    clip: Value,
    gradients: list[Value],
    decay: float,
    floor: float,
) -> Program:
    """Add gradients, ``sgd`` and ``clamp_min`` for ``clip``, with momentum state of its own.

    The program stays as it is where nothing is trained: no gradient, or no ``sgd`` to follow.
    """
    model = _first_group(program)
    if model is None or not gradients:
        return program
    taken = program.names()

    def new(name: str) -> Value:
        return Value(unused(name, taken), SCALAR)

    ops: list[Op] = []
    total = gradients[0]
    for more in gradients[1:]:
        ops.append(Op("add", (total, more), (new(f"{clip.name}.grad"),), origin=layer))
        total = ops[-1].result
    velocity = new(f"{clip.name}.momentum")
    own_decay = new(part(layer, "clip_decay"))
    step, lr, momentum, dampening = model.inputs[3:7]
    trained, velocity_next = new(f"{clip.name}.trained"), new(f"{velocity.name}.next")
    inputs = (clip, total, velocity, step, lr, momentum, dampening, own_decay)
    kept = new(f"{clip.name}.next")
    ops += [
        Op("constant", (), (own_decay,), attrs(value=float(decay)), layer),
        Op("sgd", inputs, (trained, velocity_next), model.attrs, layer),
        Op("clamp_min", (trained,), (kept,), attrs(low=float(floor)), layer),
    ]
    grown = program.with_state({velocity: 0.0}).append("update", tuple(ops))
    return replace(grown, next=(*grown.next, (clip, kept), (velocity, velocity_next)))


def _first_group(program: Program) -> Op | None:
    steps = [op for op in program.region("update").ops if op.kind == "sgd"]
    of_first = [op for op in steps if op.inputs[4].name.startswith("group0.")]
    return next(iter(of_first or steps), None)
