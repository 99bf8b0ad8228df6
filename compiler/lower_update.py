"""The optimizer as plain data, and the update region that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import InputError
from .ir import STEP, Value
from .lower_builder import Builder, f32
from .lower_joint import module_of

FLAGS = ("nesterov", "maximize")
NUMBERS = ("lr", "momentum", "dampening", "weight_decay")


@dataclass(frozen=True, slots=True)
class Group:
    """A parameter group: the trained parameters by qualified name and its settings.

    ``numbers`` are the hyper-parameters at capture, inputs of every step; the flags are part of
    the program.
    """

    parameters: tuple[str, ...]
    numbers: Mapping[str, float]
    nesterov: bool
    maximize: bool


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """What the update does: the kind of optimizer (``sgd``) and its groups in order."""

    kind: str
    groups: tuple[Group, ...]

    def group_of(self) -> dict[str, int]:
        """The group of each trained parameter."""
        return {p: i for i, g in enumerate(self.groups) for p in g.parameters}

    def inputs(self) -> tuple[str, ...]:
        """Names of the program's hyper-parameter inputs: ``group0.lr``, ..."""
        return tuple(hyper_input(i, key) for i in range(len(self.groups)) for key in NUMBERS)

    def initial(self) -> dict[str, float]:
        """The hyper-parameters at capture, by input name."""
        return {
            hyper_input(i, key): g.numbers[key]
            for i, g in enumerate(self.groups)
            for key in NUMBERS
        }

    def read(self, optimizer: HasGroups) -> dict[str, float]:
        """The hyper-parameters as they are now, by input name.

        Raises ``InputError`` when the groups or one of the flags changed since the capture: both
        are part of the program.
        """
        now = optimizer.param_groups
        if len(now) != len(self.groups):
            raise InputError(
                f"the optimizer has {len(now)} parameter groups, the step was compiled with "
                f"{len(self.groups)}; compile it again"
            )
        for i, (group, then) in enumerate(zip(now, self.groups, strict=True)):
            for flag in FLAGS:
                if bool(group[flag]) != getattr(then, flag):
                    raise InputError(
                        f"{flag} of parameter group {i} was {getattr(then, flag)} when the step "
                        f"was compiled and is {bool(group[flag])}; compile it again"
                    )
        return {hyper_input(i, k): float(g[k]) for i, g in enumerate(now) for k in NUMBERS}


class HasGroups(Protocol):
    """A ``torch.optim`` optimizer, of which only the groups matter here."""

    param_groups: list[dict[str, Any]]


def hyper_input(group: int, key: str) -> str:
    """Name of the program input that carries a hyper-parameter."""
    return f"group{group}.{key}"


def momentum_name(parameter: str) -> str:
    """Name of the momentum state of a parameter."""
    return f"{parameter}.momentum"


def declare_hyper(b: Builder, spec: OptimizerSpec) -> dict[str, Value]:
    """Program inputs for the hyper-parameters."""
    return {name: b.declare(name, f32()) for name in spec.inputs()}


def update(
    b: Builder,
    spec: OptimizerSpec,
    gradients: Sequence[tuple[str, Value]],
    hyper: Mapping[str, Value],
) -> list[tuple[Value, Value]]:
    """Append one ``sgd`` for each parameter with a gradient, then the step counter.

    Gradients of a parameter that occurs more than once are summed. Returns the pairs of state and
    next state; declares the momenta and ``step`` as state.
    """
    step = b.counted(STEP)
    b.region = "update"
    pairs: list[tuple[Value, Value]] = []
    for name, gradient in _summed(b, gradients):
        group = spec.group_of()[name]
        weight = b.state[name]
        b.origin = module_of(name)
        momentum = b.state[momentum_name(name)] = b.declare(momentum_name(name), weight.type)
        inputs = [hyper[hyper_input(group, key)] for key in NUMBERS]
        last = name.rpartition(".")[2]
        made = b.emit(
            "sgd",
            (weight, gradient, momentum, step, *inputs),
            [(f"{last}'", weight.type), (f"{last}.momentum'", weight.type)],
            nesterov=spec.groups[group].nesterov,
            maximize=spec.groups[group].maximize,
        )
        pairs += zip((weight, momentum), made, strict=True)
    b.origin = "optimizer"
    pairs.append((step, b.emit("increment", (step,), [(f"{STEP}'", step.type)])[0]))
    return pairs


def _summed(b: Builder, gradients: Sequence[tuple[str, Value]]) -> list[tuple[str, Value]]:
    total: dict[str, Value] = {}
    for name, gradient in gradients:
        if name in total:
            b.origin = module_of(name)
            both, shape = (total[name], gradient), gradient.type.shape
            gradient = b.one("add", both, "sum", shape)
        total[name] = gradient
    return list(total.items())
