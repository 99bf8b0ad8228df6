"""Reading a torch optimizer: its kind, groups and what it keeps become plain data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ..errors import CaptureError
from ..ir.optimizers import OptimizerSpec, ParameterGroup, kept_name, kind_of, read_numbers
from ..ir.updates import KINDS
from .lion import KIND, check_lion, is_lion

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


def read_optimizer(optimizer: object, model: nn.Module) -> OptimizerSpec:
    """The optimizer as data; CaptureError for one that is not known or trains foreign tensors."""
    kind = OPTIMIZERS.get(type(optimizer))
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise CaptureError(
            f"the optimizer is the class {name}; give {name}(model.parameters(), ...)"
        )
    parents = [c.__name__ for c in type(optimizer).__mro__ if c in OPTIMIZERS]
    if kind is None and parents:
        raise CaptureError(
            f"the optimizer is a {type(optimizer).__name__}, and a compiled step would not run "
            f"what it changes of torch.optim.{parents[0]}; give torch.optim.{parents[0]} itself"
        )
    if kind is None and is_lion(optimizer):
        kind = KIND
    if kind is None:
        known = ", ".join(c.__name__ for c in OPTIMIZERS)
        raise CaptureError(
            f"the optimizer is {type(optimizer).__module__}.{type(optimizer).__name__}; "
            f"supported of torch.optim are {known}, and Lion of other packages"
        )
    assert isinstance(optimizer, torch.optim.Optimizer)
    names = {id(p): name for name, p in model.named_parameters()}
    every = enumerate(optimizer.param_groups)
    groups = tuple(_group(kind, i, group, names) for i, group in every)
    if kind == KIND:
        check_lion(optimizer)
    if not any(g.parameters for g in groups):
        raise CaptureError("the optimizer has no parameter that requires a gradient; unfreeze one")
    return OptimizerSpec(groups)


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
    optimizer: torch.optim.Optimizer, spec: OptimizerSpec, model: nn.Module
) -> tuple[dict[str, np.ndarray], int]:
    """What earlier steps of the optimizer left, by name of the state, and how many steps; copies.

    The program has one step counter. An optimizer where only some parameters have been trained
    fits it only if the count changes nothing: SGD without dampening.
    """
    found: dict[str, np.ndarray] = {}
    steps: dict[str, int] = {}
    parameters = dict(model.named_parameters())
    for name, group in spec.group_of().items():
        state = optimizer.state.get(parameters[name], {})
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
