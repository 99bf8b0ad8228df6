"""Capture: a PyTorch model, its loss, an example batch and an optimizer become f32 programs.

captured = capture(model, loss, (x, y), torch.optim.SGD(model.parameters(), lr=0.1))
captured.train, captured.evaluation, captured.state, captured.optimizer.read(optimizer)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ..errors import CaptureError, InputError
from ..ir import OPTIMIZER_STEP, Program
from ..ir.optimizers import OptimizerSpec, kept_name, momentum_steps
from ..lower.builder import FORMAT_OF, FORMAT_WITHIN
from ..lower.programs import Lowered, lower_evaluation, lower_training
from ..saved import Kept
from .attached import check_hooks, check_keys, check_methods, check_model, check_tensors
from .graph import Loss, check_loss, state_tensors, trace_evaluation, trace_training
from .optimizer import Optimizers, kept_tensors, read_optimizers, several
from .saved import kept_in_training


@dataclass(frozen=True, slots=True)
class Capture:
    """A training step and an evaluation as f32 programs, with everything needed to run them.

    ``state`` holds the initial value (float32 or int64, a copy) of every state of ``train`` but the
    seed of its generator, which is the caller's;
    ``evaluation`` reads the parameters and buffers among them by the same names. ``model_state``
    maps each key of the model's ``state_dict`` to its state, tied parameters to the same one.
    ``torch_saved`` is what PyTorch would keep for backward, None where it could not tell;
    ``written`` are the buffers that training writes.
    """

    train: Program
    evaluation: Program
    state: Mapping[str, np.ndarray]
    optimizer: OptimizerSpec
    model_state: Mapping[str, str]
    torch_saved: tuple[Kept, ...] | None
    written: frozenset[str] = frozenset()


def capture(
    model: nn.Module,
    loss: Loss,
    example: Sequence[torch.Tensor],
    optimizer: Optimizers,
    *,
    outputs: bool = False,
) -> Capture:
    """Capture one training step of ``model`` and its evaluation.

    ``example`` is a batch: the model's inputs, then the target; ``loss(output, target)`` returns a
    scalar tensor. The programs are specialised to the batch's shapes;
    with ``outputs`` the step gives those of the model behind the loss. Model, loss and optimizer
    are left exactly as they were. Trained are the parameters of the optimizer, or of several, that
    require a gradient.

    Raises ``CaptureError``, and ``UnsupportedOpError`` for an op that has no counterpart in the IR,
    with the op, the layer and the source line.
    """
    batch = _check_batch(example)
    check_model(model)
    check_loss(loss)
    optimizers = several(optimizer)
    spec = read_optimizers(optimizers, model)
    tensors = state_tensors(model, loss)
    check_tensors(tensors)
    check_keys(model)
    check_hooks(tensors, optimizers)
    check_methods(optimizers)
    for name, tensor in tensors.items():
        check_tensor(f"{name} of the model", tensor, FORMAT_WITHIN)
    joint = trace_training(model, loss, batch, spec.group_of().keys(), outputs=outputs)
    kept, steps = kept_tensors(optimizers, spec, model)
    lowered = lower_training(joint, spec, stepped=steps > 0)
    written = frozenset(joint.mutations)
    evaluation = lower_evaluation(trace_evaluation(model, batch[:-1], written))
    train, constants = with_constants(lowered, evaluation)
    state = {lowered.names[name]: _numbers(t) for name, t in tensors.items()} | constants
    counts = {OPTIMIZER_STEP: steps, **_momentum_steps(spec, kept)}
    state |= _optimizer_state(lowered, {*tensors, *constants}, kept, counts)
    keys = {id(t): lowered.names[name] for name, t in tensors.items()}
    model_state = {
        key: keys[id(t)] for key, t in model.state_dict(keep_vars=True).items() if id(t) in keys
    }
    saved = kept_in_training(model, loss, batch)
    return Capture(train, evaluation.program, state, spec, model_state, saved, written)


def with_constants(train: Lowered, evaluation: Lowered) -> tuple[Program, dict[str, np.ndarray]]:
    """The training program with the constants of both as its state, and their numbers."""
    held = {v.name for v in train.program.state}
    more = [v for v in evaluation.program.state if v.name in evaluation.stored]
    state = (*train.program.state, *(v for v in more if v.name not in held))
    return replace(train.program, state=state), {**train.stored, **evaluation.stored}


def _optimizer_state(
    lowered: Lowered,
    known: set[str],
    kept: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """What the optimizer keeps, zeros or of earlier steps, and the counters; others start at 0."""
    names = {value: name for name, value in lowered.names.items()}
    state: dict[str, np.ndarray] = {}
    for value in lowered.program.state:
        name = names[value.name]
        if name in known or value.name in lowered.program.initial:
            continue
        if value.type.format.is_index:
            state[value.name] = np.array(counts.get(name, 0), np.int64)
        else:
            fresh = np.zeros(value.type.shape, np.float32)
            state[value.name] = kept.get(name, fresh)
    return state


def _momentum_steps(spec: OptimizerSpec, kept: Mapping[str, np.ndarray]) -> dict[str, int]:
    """1 for a group with momentum buffers, 0 for one without: torch counts no more."""
    return {
        momentum_steps(i): int(any(kept_name(p, "momentum") in kept for p in group.parameters))
        for i, group in enumerate(spec.groups)
    }


def _check_batch(example: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    if not isinstance(example, (tuple, list)) or len(example) < 2:
        raise CaptureError("the example is a batch (x, y): the model's inputs, then the target")
    for i, t in enumerate(example):
        if not isinstance(t, torch.Tensor):
            kind = type(t).__name__
            raise CaptureError(
                f"element {i} of the example is a {kind}, not a tensor; several inputs stand side "
                "by side, (x1, x2, y)"
            )
        check_tensor(f"element {i} of the example", t)
        if t.is_inference():
            raise InputError(f"element {i} of the example was made in inference mode; clone it")
        if t.numel() == 0:
            shape = list(t.shape)
            raise InputError(f"element {i} of the example has shape {shape}: it holds no numbers")
    return tuple(example)


def _numbers(t: torch.Tensor) -> np.ndarray:
    """A copy; truth values as 1 and 0."""
    array: np.ndarray = t.detach().numpy().copy()
    return array.astype(np.float32) if array.dtype == np.bool_ else array


def check_tensor(what: str, t: torch.Tensor, known: Collection[str] = FORMAT_OF) -> None:
    """Raise CaptureError for a tensor of another dtype than those ``known``, or of a device."""
    dtype = str(t.dtype).removeprefix("torch.")
    if dtype not in known:
        raise CaptureError(f"{what} is {dtype}; a step works with {' and '.join(known)}")
    if t.device.type != "cpu" or t.layout is not torch.strided:
        raise CaptureError(f"{what} is on {t.device}, {t.layout}; capture dense tensors on the CPU")
