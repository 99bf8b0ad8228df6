"""Optimizers as plain data: their groups and hyper-parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import InputError, shown
from .program import Attr
from .updates import KINDS, Kind, Options


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """A parameter group: the trained parameters by qualified name, their kind of update, settings.

    ``numbers`` are the hyper-parameters at capture, inputs of every step; ``flags`` are part of
    the program.
    """

    parameters: tuple[str, ...]
    numbers: Mapping[str, float]
    flags: Mapping[str, Attr]
    kind: str

    @property
    def of(self) -> Kind:
        """The kind of its updates."""
        return KINDS[self.kind]


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """What the update does: the optimizer's groups in order."""

    groups: tuple[ParameterGroup, ...]

    def counts_momenta(self, group: int) -> bool:
        """Whether a group needs to know if its momentum buffers exist.

        SGD makes them in the first step with a momentum, of the undamped gradient. Without
        dampening a buffer of zeros comes to the same.
        """
        of = self.groups[group]
        return of.kind == "sgd" and of.numbers["dampening"] != 0.0

    def group_of(self) -> dict[str, int]:
        """The group of each trained parameter."""
        return {p: i for i, g in enumerate(self.groups) for p in g.parameters}

    def inputs(self) -> tuple[str, ...]:
        """Names of the program's hyper-parameter inputs: ``group0.lr``, ..."""
        return tuple(self.initial())

    def initial(self) -> dict[str, float]:
        """The hyper-parameters at capture, by input name."""
        return {
            hyper_input(i, key): g.numbers[key]
            for i, g in enumerate(self.groups)
            for key in g.of.numbers
        }

    def read(self, *optimizers: HasGroups) -> dict[str, float]:
        """The hyper-parameters as they are now, by input name; groups are numbered through.

        Raises ``InputError`` when the groups or one of the flags changed since the capture: both
        are part of the program.
        """
        now = [group for optimizer in optimizers for group in optimizer.param_groups]
        if len(now) != len(self.groups):
            raise InputError(
                f"the optimizer has {len(now)} parameter groups, the step was compiled with "
                f"{len(self.groups)}; compile it again"
            )
        for i, (group, then) in enumerate(zip(now, self.groups, strict=True)):
            for setting, before, after in _changed(then, group):
                raise InputError(
                    f"{setting} of parameter group {i} was {shown(before)} when the step was "
                    f"compiled and is {shown(after)}; compile it again"
                )
            # Nothing counts then whether a buffer was there before the dampening.
            none = then.kind == "sgd" and not (then.numbers["momentum"] or self.counts_momenta(i))
            if none and group.get("dampening"):
                raise InputError(
                    f"dampening of parameter group {i} was 0 and so was its momentum when the step "
                    f"was compiled, and is {group['dampening']}; compile it again"
                )
        return {
            hyper_input(i, key): number
            for i, group in enumerate(now)
            for key, number in read_numbers(self.groups[i].of, i, group).items()
        }


class HasGroups(Protocol):
    """A ``torch.optim`` optimizer, of which only the groups matter here."""

    param_groups: list[dict[str, Any]]


def kind_of(kind: str, group: Options) -> str:
    """The kind of update that a group of an optimizer of ``kind`` asks for by its flags."""
    chosen = (other for flag, other in KINDS[kind].others.items() if group.get(flag))
    return next(chosen, kind)


def read_numbers(kind: Kind, index: int, group: Options) -> dict[str, float]:
    """The hyper-parameters of group ``index``; InputError where one is gone or is no number."""
    found: dict[str, float] = {}
    for key, number in kind.numbers.items():
        try:
            found[key] = number.read(group)
        except KeyError:
            raise InputError(
                f"parameter group {index} of the optimizer has no {number.setting}"
            ) from None
        except (TypeError, ValueError, IndexError, RuntimeError):
            raise InputError(
                f"{number.setting} of parameter group {index} of the optimizer is "
                f"{shown(group[number.setting])}; it is a number"
                f"{'' if number.at is None else ' twice'}"
            ) from None
    return found


def _changed(then: ParameterGroup, now: Options) -> Iterator[tuple[str, object, object]]:
    """What is part of the program and no longer what it was: its name, before, after."""
    base = next((k for k in KINDS.values() if then.kind in k.others.values()), then.of)
    for flag, other in base.others.items():
        if (then.kind == other) != bool(now.get(flag)):
            yield flag, then.kind == other, bool(now.get(flag))
    for key, after in then.of.fixed(now).items():
        if then.flags[key] != after:
            name = then.of.settings[key].setting if key in then.of.settings else key
            yield name, then.flags[key], after


def momentum_steps(group: int) -> str:
    """Name of the state that counts the steps in which a group had a momentum."""
    return f"group{group}.momentum.steps"


def hyper_input(group: int, key: str) -> str:
    """Name of the program input that carries a hyper-parameter."""
    return f"group{group}.{key}"


def kept_name(parameter: str, kept: str) -> str:
    """Name of a state beside a parameter, such as its momentum."""
    return f"{parameter}.{kept}"
