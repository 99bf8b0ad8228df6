"""The update of a learned clip: the step of the optimizer's first group, with another decay."""

from __future__ import annotations

from dataclasses import replace

from ..compiler.formats import F32
from ..compiler.ir import Op, Program, Value, attrs, unused
from ..compiler.optimizers import KINDS, UPDATES
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
    """Add gradients, an update and ``clamp_min`` for ``clip``, with optimizer state of its own.

    The program stays as it is where nothing is trained: no gradient, or no update to follow.
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
    # An update reads weight, gradient, what the optimizer keeps, the rest; its decay comes last.
    many = len(model.results) - 1
    shared, names = model.inputs[2 + many : -1], KINDS[model.kind].kept.values()
    kept = tuple(new(f"{clip.name}.{name}") for name in names)
    own_decay, trained = new(part(layer, "clip_decay")), new(f"{clip.name}.trained")
    after = tuple(new(f"{v.name}.next") for v in kept)
    above = new(f"{clip.name}.next")
    inputs = (clip, total, *kept, *shared, own_decay)
    ops += [
        Op("constant", (), (own_decay,), attrs(value=float(decay)), layer),
        Op(model.kind, inputs, (trained, *after), model.attrs, layer),
        Op("clamp_min", (trained,), (above,), attrs(low=float(floor)), layer),
    ]
    grown = program.with_state(dict.fromkeys(kept, 0.0)).append("update", tuple(ops))
    pairs = ((clip, above), *zip(kept, after, strict=True))
    return replace(grown, next=(*grown.next, *pairs))


def _first_group(program: Program) -> Op | None:
    steps = [op for op in program.region("update").ops if op.kind in UPDATES]
    of_first = [op for op in steps if op.inputs[-1].name.startswith("group0.")]
    return next(iter(of_first or steps), None)
