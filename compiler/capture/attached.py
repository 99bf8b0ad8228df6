"""What a user attaches to a model or an optimizer and a trace would drop: refused, one by one."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import optimizer as torch_optimizer

from ..errors import CaptureError
from . import adapter
from .lion import is_lion
from .scope import Scope

WRAPPERS: tuple[tuple[type[nn.Module], str, str], ...] = (
    (adapter.CompiledModule, "compiled by torch.compile", "the module that was compiled"),
    (torch.jit.ScriptModule, "scripted or traced by torch.jit", "the nn.Module it was made from"),
    (nn.DataParallel, "wrapped in DataParallel", "its .module"),
    (nn.parallel.DistributedDataParallel, "wrapped in DistributedDataParallel", "its .module"),
)
TENSOR_HOOKS = {
    "_backward_hooks": "a hook on its gradient (register_hook)",
    "_post_accumulate_grad_hooks": "a hook (register_post_accumulate_grad_hook)",
}
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
GLOBAL_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
METHODS = ("step", "zero_grad")
PLAIN_TENSORS = (torch.Tensor, nn.Parameter, nn.Buffer)


def check_model(model: object) -> None:
    """Raise CaptureError unless ``model`` is a module that runs as Python."""
    if not isinstance(model, nn.Module):
        raise CaptureError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    if not hasattr(model, "_modules"):
        name = type(model).__name__
        raise CaptureError(f"the __init__ of {name} does not call super().__init__(); call it")
    for name, module in model.named_modules():
        for kind, what, instead in WRAPPERS:
            if isinstance(module, kind):
                raise CaptureError(f"{_layer(name)} is {what}; give {instead}")
        if _is_exported(module):
            raise CaptureError(
                f"{_layer(name)} comes from torch.export, which keeps no training mode; give the "
                "nn.Module it was exported from"
            )


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise CaptureError for a parameter or buffer that is more than a tensor of numbers."""
    for name, tensor in tensors.items():
        if type(tensor) not in PLAIN_TENSORS:
            kind = type(tensor).__name__
            fix = "run the model once to give it a shape" if is_lazy(tensor) else "make it plain"
            raise CaptureError(f"{name} is a {kind}, no plain tensor; {fix} first")
        if tensor.is_inference():
            raise CaptureError(f"{name} was made in inference mode, where nothing is trained")


def check_keys(model: nn.Module) -> None:
    """Raise CaptureError where the model's ``state_dict`` has more than parameters and buffers."""
    held = {id(t) for t in (*model.parameters(), *model.buffers())}
    for key, value in model.state_dict(keep_vars=True).items():
        if id(value) not in held:
            raise CaptureError(
                f"state_dict() of the model has {key}, which is no parameter and no buffer, "
                "so that a compiled step could not give it back; take away the hook or the "
                "get_extra_state that makes it"
            )


def check_methods(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Raise CaptureError where ``step`` or ``zero_grad`` is not that of the optimizer's class.

    A scheduler wraps ``step`` to count, and runs what it wraps.
    """
    for optimizer, name in product(optimizers, METHODS):
        now = inspect.unwrap(getattr(optimizer, name))
        own = inspect.unwrap(getattr(type(optimizer), name))
        function = inspect.unwrap(getattr(now, "__func__", now))
        tried = name == "step" and is_lion(optimizer)
        if function is not own or not (tried or own.__module__.startswith("torch.optim")):
            raise CaptureError(
                f"{name} of the optimizer has been replaced, and a compiled step does not call it; "
                "call yours around step(x, y), and give the optimizer as torch made it"
            )


def check_hooks(
    tensors: Mapping[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Raise CaptureError for hooks on parameters or on an optimizer's step, which do not run."""
    for name, tensor in tensors.items():
        for attribute, what in TENSOR_HOOKS.items():
            if getattr(tensor, attribute, None):
                raise CaptureError(
                    f"{name} has {what}, which a compiled step does not run; put it into the "
                    "forward or the loss, or remove it"
                )
    here = any(getattr(o, name, None) for o, name in product(optimizers, STEP_HOOKS))
    if here or any(getattr(torch_optimizer, name, None) for name in GLOBAL_HOOKS):
        raise CaptureError(
            "the optimizer has a hook on its step, which a compiled step does not run; call it "
            "around step(x, y), or remove it"
        )


@contextmanager
def without_saved_tensor_hooks(scope: Scope) -> Iterator[None]:
    """Raise CaptureError where the forward sets hooks on what autograd saves.

    Those of torch, as for checkpoints, give back what they took.
    """
    hooks = torch.autograd.graph.saved_tensors_hooks
    enter = hooks.__enter__

    def checked(self: torch.autograd.graph.saved_tensors_hooks) -> None:
        own = type(self) is hooks or not type(self).__module__.startswith("torch.")
        if own and threading.get_ident() == scope.thread:
            raise CaptureError(
                f"{scope.here()} sets hooks on the tensors that autograd saves, which a compiled "
                "step does not run; formats of what is kept are the recipe's"
            )
        enter(self)

    hooks.__enter__ = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        hooks.__enter__ = enter  # type: ignore[method-assign]


def _is_exported(module: nn.Module) -> bool:
    """Whether the module's ``train`` only raises, as that of torch.export's modules does."""
    return isinstance(module, torch.fx.GraphModule) and "train" in vars(module)


def _layer(name: str) -> str:
    return f"layer {name!r}" if name else "the model"
