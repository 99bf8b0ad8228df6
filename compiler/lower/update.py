"""The update region that an optimizer asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir import OPTIMIZER_STEP, STEP, Value
from ..ir.optimizers import OptimizerSpec, hyper_input, kept_name, momentum_steps
from ..ir.updates import Beside
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
    *,
    stepped: bool,
) -> list[tuple[Value, Value]]:
    """Append one update for each parameter with a gradient, then the counters.

    Gradients of a parameter that occurs more than once are summed. Returns the pairs of state and
    next state; declares what the optimizer keeps, and the counters, as state. An optimizer that has
    ``stepped`` before has a count of its own beside ``step``, which starts with the program.
    """
    counters = _Counters(b, spec, stepped)
    b.region = "update"
    pairs: list[tuple[Value, Value]] = []
    groups = spec.group_of()
    for name, gradient in _summed(b, gradients):
        group = groups[name]
        weight, kind = b.state[name], spec.groups[group].of
        b.origin = module_of(name)
        kept = [_kept(b, name, k) for k in kind.kept]
        inputs = [hyper[hyper_input(group, key)] for key in kind.numbers]
        count = (counters.of(group),) if kind.counts else ()
        last = name.rpartition(".")[2]
        parts = [last, *(f"{last}.{k.ours}" for k in kind.kept)]
        made = b.emit(
            kind.op,
            (weight, gradient, *kept, *count, *inputs),
            [(f"{part}'", v.type) for part, v in zip(parts, (weight, *kept), strict=True)],
            **spec.groups[group].flags,
        )
        pairs += zip((weight, *kept), made, strict=True)
    b.origin = "optimizer"
    return [*pairs, *counters.next(hyper)]


class _Counters:
    """What counts steps: of the program, of an optimizer that has stepped, of groups' momenta."""

    def __init__(self, b: Builder, spec: OptimizerSpec, stepped: bool) -> None:
        self.b, self.spec = b, spec
        self.steps = [b.counted(name) for name in (STEP, *([OPTIMIZER_STEP] if stepped else []))]
        self.momenta: dict[int, Value] = {}

    def of(self, group: int) -> Value:
        """What the updates of a group read."""
        if not self.spec.counts_momenta(group):
            return self.steps[-1]
        if group not in self.momenta:
            self.momenta[group] = self.b.counted(momentum_steps(group))
        return self.momenta[group]

    def next(self, hyper: Mapping[str, Value]) -> list[tuple[Value, Value]]:
        """All of them one further, a group's where it has a momentum."""
        kinds: list[tuple[str, tuple[Value, ...]]] = [("increment", (v,)) for v in self.steps]
        for group, count in self.momenta.items():
            kinds.append(("count_where", (count, hyper[hyper_input(group, "momentum")])))
        return [(x[0], self.b.emit(k, x, [(f"{x[0].name}'", x[0].type)])[0]) for k, x in kinds]


def _kept(b: Builder, parameter: str, kept: Beside) -> Value:
    name = kept_name(parameter, kept.ours)
    b.state[name] = b.declare(name, f32() if kept.number else b.state[parameter].type)
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
