"""An ONNX file and the command line's flags, made into a task."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..compiler.errors import UsageError, closest
from . import terminal
from .arguments import sizes
from .bare_flags import BareFlags
from .bare_model import BATCH, LOSSES, checked_loss, optimizer_of
from .from_onnx import from_onnx

if TYPE_CHECKING:
    from .driver import Task
    from .from_onnx.graph import Declared
    from .from_onnx.network import Network

TAKE_LOGITS = ("cross_entropy", "bce")


def onnx_task(file: str, flags: BareFlags, batch: int | None, seed: int) -> Task:
    """The task of an ONNX file: its network, loss and optimizer by flags, inputs of its shapes.

    Losses that take logits leave out a softmax or sigmoid at the network's end.
    """
    from .driver import Task

    loss = checked_loss(flags)
    outputs = () if flags.network_output is None else (flags.network_output,)
    network = from_onnx(file, outputs=outputs, logits=loss in TAKE_LOGITS)
    if len(network.outputs) > 1:
        raise UsageError(
            f"{file} has the outputs {', '.join(network.outputs)}; choose one by --network-output"
        )
    if network.left_out:
        terminal.remark(
            f"{file}: the {network.left_out} at its end is left out, as {loss} takes logits; "
            "predict gives logits too"
        )
    _freeze(network, flags.freeze or ())
    inputs = _inputs(network, flags, batch or network.batch or BATCH, seed)
    target = _target(network, inputs, loss, flags)
    return Task(network, LOSSES[loss], optimizer_of(network, flags, file), (*inputs, target))


def _freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    names = dict(network.named_parameters())
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(f"--freeze {pattern!r} fits no parameter; {closest(pattern, names)}")
        for name in found:
            names[name].requires_grad_(False)


def _inputs(network: Network, flags: BareFlags, batch: int, seed: int) -> tuple[Tensor, ...]:
    """An example of each input: random numbers, or ones where they are integers."""
    generator = torch.Generator().manual_seed(seed)
    given = None if flags.input is None else sizes(flags.input, "--input")
    made = []
    for declared in network.inputs:
        shape = _shape(network, declared, batch, given)
        if declared.floats:
            made.append(torch.randn(shape, generator=generator))
        else:
            made.append(torch.ones(shape, dtype=declared.carried))
    if not made:
        raise UsageError(f"{network.file} has no inputs; a step trains on batches")
    return tuple(made)


def _shape(
    network: Network, declared: Declared, batch: int, given: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The shape of a batch: what the file fixes, and the rest as the flag says."""
    if declared.shape == ():
        return ()
    wanted = declared.shape[1:] if declared.shape else (None,) * len(given or ())
    fixed = tuple(size for size in wanted if isinstance(size, int))
    if given is None and declared.shape is not None and len(fixed) == len(wanted):
        return batch, *fixed
    words = "x".join("?" if not isinstance(s, int) else str(s) for s in wanted)
    if given is None:
        raise UsageError(
            f"{network.file} leaves sizes of its input {declared.name!r} open: an example is "
            f"{words or '?'}; add --input with all of them"
        )
    fits = zip(wanted, given, strict=False)
    if len(wanted) != len(given) or any(isinstance(w, int) and w != g for w, g in fits):
        raise UsageError(
            f"--input {flags_text(given)} does not fit the input {declared.name!r} of "
            f"{network.file}, of which an example is {words}"
        )
    return batch, *given


def flags_text(shape: tuple[int, ...]) -> str:
    """A shape as ``--input`` takes it."""
    return "x".join(map(str, shape))


def _target(network: Network, inputs: tuple[Tensor, ...], loss: str, flags: BareFlags) -> Tensor:
    """Example targets of the output's shape: labels that count up, or zeros."""
    with torch.no_grad():
        output = network.eval()(*inputs)
    network.train()
    assert isinstance(output, Tensor), "one output was chosen"
    batch = inputs[0].shape[:1]
    if output.shape[:1] != batch:
        raise UsageError(
            f"{network.file} gives {flags_text(tuple(output.shape))} for a batch of {batch[0]}; an "
            "output has one row for each example, so export it with a dynamic batch"
        )
    if loss != "cross_entropy":
        return torch.zeros_like(output)
    if output.dim() < 2:
        raise UsageError(f"{network.file} gives one number an example, and no scores of classes")
    if flags.classes not in (None, output.shape[1]):
        raise UsageError(f"{network.file} has {output.shape[1]} classes, not {flags.classes}")
    labels = output.select(1, 0)
    return (torch.arange(labels.numel()) % output.shape[1]).reshape(labels.shape)
