"""A bare ``nn.Module`` and the command line's flags, made into a task; and the size of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..compiler.errors import UsageError, closest
from .arguments import sizes
from .bare_flags import BareFlags

if TYPE_CHECKING:
    from .driver import Task

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": nn.functional.cross_entropy,
    "bce": nn.functional.binary_cross_entropy_with_logits,
    "mse": nn.functional.mse_loss,
    "l1": nn.functional.l1_loss,
    "smooth_l1": nn.functional.smooth_l1_loss,
    "huber": nn.functional.huber_loss,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    kind.__name__.lower(): kind
    for kind in (
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.ASGD,
    )
}
SGD, RMSPROP = "sgd", "rmsprop"
BATCH = 128
# Others start at torch's own rate, and have no settings of these.
RATES = {SGD: 0.1, RMSPROP: 1e-3}
OWN: dict[str, dict[str, float]] = {
    SGD: {"momentum": 0.9, "nesterov": False},
    RMSPROP: {"momentum": 0.0},
}


def task_of(made: object, spec: str, flags: BareFlags, batch: int | None, seed: int) -> Task:
    """The task to compile: what the factory ``spec`` returned, completed by the flags."""
    from .driver import Task

    if isinstance(made, nn.Module):
        return _task(made, spec, flags, batch or BATCH, seed)
    if not isinstance(made, Task):
        raise UsageError(
            f"{spec} returned {type(made).__name__!r}; a factory returns a quatrain.Task(model, "
            "loss, optimizer, example) or a torch.nn.Module"
        )
    if given := flags.given():
        raise UsageError(
            f"{', '.join(given)} is for bare models, but {spec} returned a quatrain.Task, which "
            "brings its own loss, optimizer and example"
        )
    if batch is None:
        return made
    example = tuple(_of_size(part, batch, spec) for part in made.example)
    return Task(made.model, made.loss, made.optimizer, example)


def checked_loss(flags: BareFlags) -> str:
    """The loss that the flags name; UsageError where it, or the optimizer, is unknown."""
    loss = flags.loss or "cross_entropy"
    if loss not in LOSSES:
        raise UsageError(f"no loss is called {loss!r}; {closest(loss, LOSSES)}")
    if (name := flags.optimizer or SGD) not in OPTIMIZERS:
        raise UsageError(f"no optimizer is called {name!r}; {closest(name, OPTIMIZERS)}")
    return loss


def _task(model: nn.Module, spec: str, flags: BareFlags, batch: int, seed: int) -> Task:
    from .driver import Task

    if flags.input is None:
        raise UsageError(f"{spec} returned a bare model; add --input 3x32x32, one example")
    if flags.network_output is not None or flags.freeze is not None:
        raise UsageError(
            f"--network-output and --freeze are for ONNX networks, but {spec} returned a bare model"
        )
    loss = checked_loss(flags)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *sizes(flags.input, "--input"), generator=generator)
    y = _targets(model, x, loss, flags, spec)
    return Task(model, LOSSES[loss], optimizer_of(model, flags, spec), (x, y))


def _targets(model: nn.Module, x: Tensor, loss: str, flags: BareFlags, spec: str) -> Tensor:
    """Example targets: labels that count up, or zeros of the output's shape."""
    if loss == "cross_entropy":
        if flags.classes is None:
            raise UsageError(f"{spec} returned a bare model; add --classes N, the number of labels")
        return torch.arange(len(x)) % flags.classes
    if flags.classes is None:
        raise UsageError(f"{spec} returned a bare model; add --classes N, its outputs")
    return torch.zeros(len(x), flags.classes)


def optimizer_of(model: nn.Module, flags: BareFlags, spec: str) -> torch.optim.Optimizer:
    """The optimizer that the flags name, of all parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(f"{spec} has no parameters to train")
    kind = flags.optimizer or SGD
    rate = RATES.get(kind) if flags.lr is None else flags.lr
    given: dict[str, float | None] = {"lr": rate, **OWN.get(kind, {})}
    wanted = {"momentum": flags.momentum, "nesterov": flags.nesterov or None}
    asked = {name: value for name, value in wanted.items() if value is not None}
    try:
        if odd := [name for name in asked if name not in given]:
            raise ValueError(f"{kind} has no {odd[0]} of its own")
        settings = {name: x for name, x in {**given, **asked}.items() if x is not None}
        return OPTIMIZERS[kind](parameters, weight_decay=flags.weight_decay or 0.0, **settings)
    except ValueError as error:
        raise UsageError(f"the optimizer's flags do not fit together: {error}") from error


def _of_size(part: Tensor, batch: int, spec: str) -> Tensor:
    """``part`` with ``batch`` examples: its own, repeated in turn."""
    if part.dim() == 0:
        raise UsageError(f"the example of {spec} holds a single number; --batch needs dimension 0")
    return part[torch.arange(batch) % len(part)]
