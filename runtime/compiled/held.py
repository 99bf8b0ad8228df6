"""What quantization keeps beside a model's parameters: buffers of the modules that it belongs to.

Buffers, also what is learned (a clip, and what its update keeps): an optimizer is made ahead of the
first forward, which compiles, and would never train a parameter that comes then. A program's state
``fc.clip`` is the buffer ``quatrain_clip`` of the module ``fc``. So state_dict, checkpoints, copies
and what torch offers beyond them carry it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from weakref import ReferenceType, ref

import numpy as np
import torch
from torch import nn

from ...compiler.errors import InputError

PREFIX = "quatrain_"


def attach(model: nn.Module) -> nn.Module:
    """Let ``model`` take a ``state_dict`` that holds such buffers before it has been compiled.

    Returns the model. One that has run under torch.compile needs no call.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"attach takes a model, an nn.Module, not a {type(model).__name__}")
    known = model._load_state_dict_pre_hooks.values()
    if not any(getattr(hook, "hook", hook) is _make_room for hook in known):
        model.register_load_state_dict_pre_hook(_make_room)
    return model


def _make_room(
    module: nn.Module, state_dict: Mapping[str, object], prefix: str, *_: object
) -> None:
    """Make the buffers that a state_dict has and the module not yet."""
    modules = dict(module.named_modules())
    for key, value in state_dict.items():
        path, _dot, name = key.removeprefix(prefix).rpartition(".")
        owner = modules.get(path) if key.startswith(prefix) else None
        if owner is None or not name.startswith(PREFIX) or name in owner._buffers:
            continue
        if isinstance(value, torch.Tensor):
            owner.register_buffer(name, torch.empty_like(value, device="cpu"))


class ModuleState:
    """The buffers of the modules of one or several roots, by the names of a program's state."""

    def __init__(self, roots: Sequence[tuple[str, nn.Module]]) -> None:
        # Not held: what torch has compiled outlives a model.
        self._modules = {
            ".".join(filter(None, (prefix, path))): ref(module)
            for prefix, root in roots
            for path, module in root.named_modules()
        }
        self._top = ref(roots[0][1])
        self._places: dict[str, tuple[ReferenceType[nn.Module], str]] = {}
        for _, root in roots:
            attach(root)

    def buffer(self, state: str, start: np.ndarray) -> torch.Tensor:
        """The buffer of a state, made with the numbers of ``start`` where it is not there.

        InputError for one that was loaded and is another.
        """
        if state not in self._places:
            self._places[state] = self._place(state)
        module, name = self._places[state]
        owner = module()
        assert owner is not None, "a graph runs with its model"
        if name not in owner._buffers:
            with torch.inference_mode(False):  # else no training could write into it
                owner.register_buffer(name, torch.from_numpy(start.copy()))
        held, wanted = owner._buffers[name], torch.from_numpy(start)
        if held is None or held.shape != wanted.shape or held.dtype != wanted.dtype:
            found = "nothing" if held is None else f"{held.dtype}{list(held.shape)}"
            raise InputError(
                f"{state} is {wanted.dtype}{list(wanted.shape)} by this recipe, and the buffer "
                f"{name} holds {found}; load what was trained by the same recipe, and leave "
                "the model in float32"
            )
        if held.device.type != "cpu":
            raise InputError(f"the buffer {name} is on {held.device}; move the model to the CPU")
        return held

    def _place(self, state: str) -> tuple[ReferenceType[nn.Module], str]:
        """The module whose name ``state`` begins with, and the buffer's name there."""
        for end in [m.start() for m in re.finditer(r"[.#]", state)][::-1]:
            owner = self._modules.get(state[:end])
            if owner is not None:
                return owner, PREFIX + _word(state[end:])
        return self._top, PREFIX + _word(state)


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")
