"""Reading a torch optimizer: its kind, groups and what it keeps become plain data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ..errors import CaptureError
from ..ir.optimizers import KINDS, OptimizerSpec, ParameterGroup, kept_name, read_numbers

OPTIMIZERS: dict[type[object], str] = {
    torch.optim.SGD: "sgd",
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adam",
    torch.optim.RMSprop: "rmsprop",
}
# Settings that have no counterpart.
REFUSED = ("amsgrad", "centered", "differentiable")


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
    if kind is None:
        known = ", ".join(c.__name__ for c in OPTIMIZERS)
        raise CaptureError(
            f"the optimizer is {type(optimizer).__module__}.{type(optimizer).__name__}; "
            f"supported of torch.optim are {known}"
        )
    assert isinstance(optimizer, torch.optim.Optimizer)
    names = {id(p): name for name, p in model.named_parameters()}
    every = enumerate(optimizer.param_groups)
    groups = tuple(_group(kind, i, group, names) for i, group in every)
    if not any(g.parameters for g in groups):
        raise CaptureError("the optimizer has no parameter that requires a gradient; unfreeze one")
    return OptimizerSpec(kind, groups)


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
    numbers = read_numbers(KINDS[kind], index, group)
    flags = {flag: bool(group.get(flag)) for flag in KINDS[kind].flags}
    return ParameterGroup(tuple(trained), numbers, flags)


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
    for name in spec.group_of():
        state = optimizer.state.get(parameters[name], {})
        for key, ours in spec.of.kept.items():
            tensor = state.get(key)
            if tensor is not None:
                array = tensor.detach().to(torch.float32).cpu().numpy().copy()
                found[kept_name(name, ours)] = array
        # SGD counts no steps: a momentum is a step.
        seen = state.get("step", 1 if state.get("momentum_buffer") is not None else 0)
        steps[name] = int(seen)
    _check_steps(spec, steps)
    return found, max(steps.values(), default=0)


def _check_steps(spec: OptimizerSpec, steps: Mapping[str, int]) -> None:
    if len(set(steps.values())) < 2:
        return
    groups, most = spec.group_of(), max(steps.values())
    behind = [n for n, count in steps.items() if count < most]
    if spec.kind == "sgd":
        behind = [n for n in behind if spec.groups[groups[n]].numbers["dampening"] != 0.0]
    if spec.kind != "rmsprop" and behind:
        raise CaptureError(
            f"{behind[0]} has been trained for {steps[behind[0]]} steps, others for {most}, which "
            "one counter cannot tell; give the step an optimizer of before its first step"
        )
