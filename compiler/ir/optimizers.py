"""Optimizers as plain data: their kinds, groups and hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

from ..errors import InputError, shown

Options = Mapping[str, Any]  # a parameter group of torch


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of optimizer: the op of its update, what it reads and what it keeps.

    ``numbers`` are hyper-parameters by name, read from a group of torch at every call; weight
    decay comes last. ``flags`` are part of the program. ``kept`` are the tensors beside each
    parameter, by torch's name and ours. An op that ``counts`` reads the number of steps.
    """

    op: str
    numbers: Mapping[str, Callable[[Options], float]]
    flags: tuple[str, ...]
    kept: Mapping[str, str]
    counts: bool = True


def _plain(*names: str) -> dict[str, Callable[[Options], float]]:
    return {name: itemgetter(name) for name in names}


def _rest(i: int) -> Callable[[Options], float]:
    return lambda group: 1.0 - float(group["betas"][i])


# f32 holds 1 - beta to its last digits, beta itself not.
ADAM = {
    **_plain("lr"),
    "one_minus_beta1": _rest(0),
    "one_minus_beta2": _rest(1),
    **_plain("eps", "weight_decay"),
}
# What a user sets, of numbers that go by another name here.
SETTING_OF = {"one_minus_beta1": "betas", "one_minus_beta2": "betas"}
MOMENTS = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
KINDS: dict[str, Kind] = {
    "sgd": Kind(
        "sgd",
        _plain("lr", "momentum", "dampening", "weight_decay"),
        ("nesterov", "maximize"),
        {"momentum_buffer": "momentum"},
    ),
    "adam": Kind("adam", ADAM, ("decoupled_weight_decay", "maximize"), MOMENTS),
    "rmsprop": Kind(
        "rmsprop",
        _plain("lr", "alpha", "eps", "momentum", "weight_decay"),
        ("maximize",),
        {"square_avg": "square_avg", "momentum_buffer": "momentum"},
        counts=False,
    ),
}


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """A parameter group: the trained parameters by qualified name and its settings.

    ``numbers`` are the hyper-parameters at capture, inputs of every step; ``flags`` are part of
    the program.
    """

    parameters: tuple[str, ...]
    numbers: Mapping[str, float]
    flags: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """What the update does: the kind of optimizer (``sgd``) and its groups in order."""

    kind: str
    groups: tuple[ParameterGroup, ...]

    def counts_momenta(self, group: int) -> bool:
        """Whether a group needs to know if its momentum buffers exist.

        SGD makes them in the first step with a momentum, of the undamped gradient. Without
        dampening a buffer of zeros comes to the same.
        """
        return self.kind == "sgd" and self.groups[group].numbers["dampening"] != 0.0

    @property
    def of(self) -> Kind:
        """The kind."""
        return KINDS[self.kind]

    def group_of(self) -> dict[str, int]:
        """The group of each trained parameter."""
        return {p: i for i, g in enumerate(self.groups) for p in g.parameters}

    def inputs(self) -> tuple[str, ...]:
        """Names of the program's hyper-parameter inputs: ``group0.lr``, ..."""
        every = range(len(self.groups))
        return tuple(hyper_input(i, key) for i in every for key in self.of.numbers)

    def initial(self) -> dict[str, float]:
        """The hyper-parameters at capture, by input name."""
        return {
            hyper_input(i, key): g.numbers[key]
            for i, g in enumerate(self.groups)
            for key in self.of.numbers
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
            for flag, before in then.flags.items():
                if bool(group.get(flag)) != before:
                    raise InputError(
                        f"{flag} of parameter group {i} was {before} when the step "
                        f"was compiled and is {bool(group.get(flag))}; compile it again"
                    )
            # Nothing counts then whether a buffer was there before the dampening.
            none = self.kind == "sgd" and not (then.numbers["momentum"] or self.counts_momenta(i))
            if none and group.get("dampening"):
                raise InputError(
                    f"dampening of parameter group {i} was 0 and so was its momentum when the step "
                    f"was compiled, and is {group['dampening']}; compile it again"
                )
        return {
            hyper_input(i, key): number
            for i, group in enumerate(now)
            for key, number in read_numbers(self.of, i, group).items()
        }


class HasGroups(Protocol):
    """A ``torch.optim`` optimizer, of which only the groups matter here."""

    param_groups: list[dict[str, Any]]


def read_numbers(kind: Kind, index: int, group: Options) -> dict[str, float]:
    """The hyper-parameters of group ``index``; InputError where one is gone or is no number."""
    found: dict[str, float] = {}
    for key, read in kind.numbers.items():
        asked = SETTING_OF.get(key, key)
        try:
            found[key] = float(read(group))
        except KeyError:
            raise InputError(f"parameter group {index} of the optimizer has no {asked}") from None
        except (TypeError, ValueError, IndexError, RuntimeError):
            said = shown(group[asked])
            raise InputError(
                f"{asked} of parameter group {index} of the optimizer is {said}; it is a number"
                f"{' twice' if asked == 'betas' else ''}"
            ) from None
    return found


def momentum_steps(group: int) -> str:
    """Name of the state that counts the steps in which a group had a momentum."""
    return f"group{group}.momentum.steps"


def hyper_input(group: int, key: str) -> str:
    """Name of the program input that carries a hyper-parameter."""
    return f"group{group}.{key}"


def kept_name(parameter: str, kept: str) -> str:
    """Name of a state beside a parameter, such as its momentum."""
    return f"{parameter}.{kept}"
