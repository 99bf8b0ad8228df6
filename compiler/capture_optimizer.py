"""Reading a torch optimizer: its kind, groups and momenta become plain data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from .errors import CaptureError
from .lower_update import NUMBERS, Group, OptimizerSpec

OPTIMIZERS: dict[type[object], str] = {torch.optim.SGD: "sgd"}


def read_optimizer(optimizer: object, model: nn.Module) -> OptimizerSpec:
    """The optimizer as data; CaptureError for one that is not known or trains foreign tensors."""
    kind = OPTIMIZERS.get(type(optimizer))
    if kind is None:
        known = ", ".join(f"torch.optim.{c.__name__}" for c in OPTIMIZERS)
        raise CaptureError(
            f"the optimizer is {type(optimizer).__module__}.{type(optimizer).__name__}; "
            f"supported is {known}"
        )
    assert isinstance(optimizer, torch.optim.Optimizer)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = tuple(_group(i, group, names) for i, group in enumerate(optimizer.param_groups))
    if not any(g.parameters for g in groups):
        raise CaptureError("the optimizer has no parameter that requires a gradient; unfreeze one")
    return OptimizerSpec(kind, groups)


def _group(index: int, group: Mapping[str, object], names: Mapping[int, str]) -> Group:
    trained: list[str] = []
    parameters = group["params"]
    assert isinstance(parameters, list)
    for p in parameters:
        if id(p) not in names:
            raise CaptureError(
                f"parameter group {index} of the optimizer holds a {tuple(p.shape)} tensor "
                "that is no parameter of the model; build the optimizer from model.parameters()"
            )
        if p.requires_grad:
            trained.append(names[id(p)])
    numbers = {key: float(group[key]) for key in NUMBERS}  # type: ignore[arg-type]
    return Group(tuple(trained), numbers, bool(group["nesterov"]), bool(group["maximize"]))


def momenta(
    optimizer: torch.optim.Optimizer, spec: OptimizerSpec, model: nn.Module
) -> dict[str, np.ndarray]:
    """Momentum buffers that earlier steps of the optimizer left, by parameter name; copies.

    A step is damped by ``dampening`` from the second one on, and the program has one step counter:
    an optimizer where only some parameters have a buffer fits it only without dampening.
    """
    found: dict[str, np.ndarray] = {}
    parameters = dict(model.named_parameters())
    groups = spec.group_of()
    for name in groups:
        buffer = optimizer.state.get(parameters[name], {}).get("momentum_buffer")
        if buffer is not None:
            found[name] = buffer.detach().to(torch.float32).cpu().numpy().copy()
    fresh = [n for n in groups if n not in found]
    damped = [n for n in fresh if spec.groups[groups[n]].numbers["dampening"] != 0.0]
    if found and damped:
        raise CaptureError(
            f"{damped[0]} has no momentum yet while {next(iter(found))} has, which does not fit a "
            "dampening other than 0; give the step an optimizer of before its first step"
        )
    return found
