"""The update region that an optimizer asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir import STEP, Value
from ..ir.optimizers import OptimizerSpec, hyper_input, kept_name
from .builder import Builder, f32
from .joint import module_of


def declare_hyper(b: Builder, spec: OptimizerSpec) -> dict[str, Value]:
    """Program inputs for the hyper-parameters."""
    return {name: b.declare(name, f32()) for name in spec.inputs()}


def update(
    b: Builder,
    spec: OptimizerSpec,
    gradients: Sequence[tuple[str, Value]],
    hyper: Mapping[str, Value],
) -> list[tuple[Value, Value]]:
    """Append one update for each parameter with a gradient, then the step counter.

    Gradients of a parameter that occurs more than once are summed. Returns the pairs of state and
    next state; declares what the optimizer keeps, and ``step``, as state.
    """
    step = b.counted(STEP)
    b.region, kind = "update", spec.of
    count = (step,) if kind.counts else ()
    pairs: list[tuple[Value, Value]] = []
    for name, gradient in _summed(b, gradients):
        group = spec.group_of()[name]
        weight = b.state[name]
        b.origin = module_of(name)
        kept = [_kept(b, name, key) for key in kind.kept.values()]
        inputs = [hyper[hyper_input(group, key)] for key in kind.numbers]
        last = name.rpartition(".")[2]
        parts = [last, *(f"{last}.{key}" for key in kind.kept.values())]
        made = b.emit(
            kind.op,
            (weight, gradient, *kept, *count, *inputs),
            [(f"{part}'", weight.type) for part in parts],
            **spec.groups[group].flags,
        )
        pairs += zip((weight, *kept), made, strict=True)
    b.origin = "optimizer"
    pairs.append((step, b.emit("increment", (step,), [(f"{STEP}'", step.type)])[0]))
    return pairs


def _kept(b: Builder, parameter: str, key: str) -> Value:
    name = kept_name(parameter, key)
    b.state[name] = b.declare(name, b.state[parameter].type)
    return b.state[name]


def _summed(b: Builder, gradients: Sequence[tuple[str, Value]]) -> list[tuple[str, Value]]:
    total: dict[str, Value] = {}
    for name, gradient in gradients:
        if name in total:
            b.origin = module_of(name)
            both, shape = (total[name], gradient), gradient.type.shape
            gradient = b.one("add", both, "sum", shape)
        total[name] = gradient
    return list(total.items())
