"""The update of a parameter that a pass adds: the step of the optimizer's first group."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.errors import RecipeError
from ...compiler.ir import OPTIMIZER_STEP, STEP, Op, Program, Value, attrs, unused
from ...compiler.ir.ops import Trait, has
from ...compiler.ir.updates import KINDS
from ...compiler.types import TensorType


@dataclass(frozen=True, slots=True)
class AddedUpdate:
    """The ops of an update, the parameter that they make, and what the optimizer keeps beside it.

    ``kept`` pairs state, which starts at 0, with its next value.
    """

    ops: tuple[Op, ...]
    made: Value
    kept: tuple[tuple[Value, Value], ...]


def added_update(
    program: Program,
    layer: str,
    now: Value,
    gradient: Value,
    taken: set[str],
    *,
    name: str,
    decay: float | None = None,
) -> AddedUpdate | None:
    """Step ``now`` along ``gradient``, of the same type, with the rates of the first group.

    ``name`` begins the names of new values; ``decay`` takes the place of the group's weight decay.
    None where the program updates nothing.
    """
    model = _first_group(program, name)
    if model is None:
        return None

    def new(part: str, type_: TensorType = now.type) -> Value:
        return Value(unused(f"{name}.{part}", taken), type_)

    # An update reads weight, gradient, what the optimizer keeps, the rest; its decay comes last.
    many, ops = len(model.results) - 1, list[Op]()
    shared, weight_decay = model.inputs[2 + many : -1], model.inputs[-1]
    # What an added parameter keeps is as old as the program.
    life = {v.name: v for v in program.state if v.name == STEP}
    shared = tuple(life[STEP] if v.name == OPTIMIZER_STEP else v for v in shared)
    if decay is not None:
        weight_decay = new("decay", weight_decay.type)
        constant = attrs(value=float(decay))
        ops.append(Op("constant", (), (weight_decay,), constant, layer))
    single = TensorType((), now.type.format)
    kept = tuple(new(k.ours, single if k.number else now.type) for k in KINDS[model.kind].kept)
    made, after = (
        new("trained"),
        tuple(Value(unused(f"{v.name}.next", taken), v.type) for v in kept),
    )
    inputs = (now, gradient, *kept, *shared, weight_decay)
    ops.append(Op(model.kind, inputs, (made, *after), model.attrs, layer))
    return AddedUpdate(tuple(ops), made, tuple(zip(kept, after, strict=True)))


def _first_group(program: Program, name: str) -> Op | None:
    """An update of the first group whose optimizer trains numbers as well as matrices."""
    steps = [op for op in program.region("update").ops if has(op, Trait.UPDATE)]
    apart = [op for op in steps if not has(op, Trait.COMPOSED)]
    if steps and not apart:
        raise RecipeError(
            f"the recipe trains {name}, but the optimizer is {steps[0].kind}, which trains whole "
            "matrices; give a list of two, the other one for single numbers and vectors"
        )
    of_first = [op for op in apart if op.inputs[-1].name.startswith("group0.")]
    return next(iter(of_first or apart), None)
