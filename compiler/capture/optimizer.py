"""Reading a torch optimizer: its kind, groups and what it keeps become plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from ..errors import CaptureError
from ..ir.optimizers import OptimizerSpec, ParameterGroup, kept_name, kind_of, read_numbers
from ..ir.updates import KINDS
from .lion import KIND, check_lion, is_lion

Optimizers: TypeAlias = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
OPTIMIZERS: dict[type[object], str] = {
    torch.optim.SGD: "sgd",
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adam",
    torch.optim.NAdam: "nadam",
    torch.optim.RAdam: "radam",
    torch.optim.Adamax: "adamax",
    torch.optim.RMSprop: "rmsprop",
    torch.optim.Adagrad: "adagrad",
    torch.optim.Adadelta: "adadelta",
    torch.optim.ASGD: "asgd",
    torch.optim.Rprop: "rprop",
    torch.optim.Muon: "muon",
}
# Settings that have no counterpart.
REFUSED = ("differentiable",)


def several(optimizer: Optimizers) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of a step, of which most have one; CaptureError where there is none."""
    found = tuple(optimizer) if isinstance(optimizer, list | tuple) else (optimizer,)
    if not found:
        raise CaptureError("the list of optimizers is empty; give at least one")
    return found


def read_optimizers(optimizers: Sequence[object], model: nn.Module) -> OptimizerSpec:
    """The optimizers as data; CaptureError for one that is not known or trains foreign tensors.

    Groups are numbered through.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    groups = list[ParameterGroup]()
    for optimizer in optimizers:
        kind = optimizer_kind(optimizer)
        assert isinstance(optimizer, torch.optim.Optimizer)
        every = enumerate(optimizer.param_groups, len(groups))
        groups += [_group(kind, i, group, names) for i, group in every]
        if kind == KIND:
            check_lion(optimizer)
    counted = Counter(name for group in groups for name in group.parameters)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise CaptureError(f"{twice[0]} is in two of the optimizers; leave it in one")
    if not counted:
        raise CaptureError("the optimizer has no parameter that requires a gradient; unfreeze one")
    return OptimizerSpec(tuple(groups))


def optimizer_kind(optimizer: object) -> str:
    """Its kind, of which its groups may be variants."""
    kind = OPTIMIZERS.get(type(optimizer))
    if kind is not None:
        return kind
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise CaptureError(
            f"the optimizer is the class {name}; give {name}(model.parameters(), ...)"
        )
    parents = [c.__name__ for c in type(optimizer).__mro__ if c in OPTIMIZERS]
    if parents:
        raise CaptureError(
            f"the optimizer is a {type(optimizer).__name__}, and a compiled step would not run "
            f"what it changes of torch.optim.{parents[0]}; give torch.optim.{parents[0]} itself"
        )
    if is_lion(optimizer):
        return KIND
    known = ", ".join(c.__name__ for c in OPTIMIZERS)
    raise CaptureError(
        f"the optimizer is {type(optimizer).__module__}.{type(optimizer).__name__}; "
        f"supported of torch.optim are {known}, and Lion of other packages"
    )


def _group(
    kind: str, index: int, group: Mapping[str, object], names: Mapping[int, str]
) -> ParameterGroup:
    trained: list[str] = []
    parameters = group["params"]
    assert isinstance(parameters, list)
    for p in parameters:
        if id(p) not in names:
            raise CaptureError(
                f"parameter group {index} of the optimizer holds a {tuple(p.shape)} tensor "
                "that is no parameter of the model; build the optimizer from model.parameters(), "
                "and put what a loss learns into the model"
            )
        if p.requires_grad:
            trained.append(names[id(p)])
    for setting in REFUSED:
        if group.get(setting):
            raise CaptureError(
                f"parameter group {index} of the optimizer has {setting}=True; only "
                f"{setting}=False is supported"
            )
    kind = kind_of(kind, group)
    numbers = read_numbers(KINDS[kind], index, group)
    return ParameterGroup(tuple(trained), numbers, KINDS[kind].fixed(group), kind)


def kept_tensors(
    optimizers: Sequence[torch.optim.Optimizer], spec: OptimizerSpec, model: nn.Module
) -> tuple[dict[str, np.ndarray], int]:
    """What earlier steps of the optimizers left, by name of the state, and how many steps; copies.

    The program has one step counter. Optimizers where only some parameters have been trained fit
    it only if the count changes nothing, as in SGD without dampening.
    """
    found: dict[str, np.ndarray] = {}
    steps: dict[str, int] = {}
    parameters = dict(model.named_parameters())
    states = {p: state for one in optimizers for p, state in one.state.items()}
    for name, group in spec.group_of().items():
        state = states.get(parameters[name], {})
        for kept in spec.groups[group].of.kept:
            tensor = state.get(kept.theirs)
            if tensor is not None:
                array = tensor.detach().to(torch.float32).cpu().numpy().copy()
                found[kept_name(name, kept.ours)] = array
        # SGD, Lion and Muon count no steps: what they keep is made in the first.
        seen = state.get("step", 1 if any(v is not None for v in state.values()) else 0)
        steps[name] = int(seen)
    _check_steps(spec, steps)
    return found, max(steps.values(), default=0)


def _check_steps(spec: OptimizerSpec, steps: Mapping[str, int]) -> None:
    groups, most = spec.group_of(), max(steps.values(), default=0)
    for name, count in steps.items():
        group = spec.groups[groups[name]]
        counted = group.numbers["dampening"] != 0.0 if group.kind == "sgd" else group.of.counts
        if counted and count < most:
            raise CaptureError(
                f"{name} has been trained for {count} steps, others for {most}, which one counter "
                "cannot tell; give the step an optimizer of before its first step"
            )
