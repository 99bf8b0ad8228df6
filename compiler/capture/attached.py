"""What a user attaches to a model or an optimizer and a trace would drop: refused, one by one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer

from ..errors import CaptureError
from . import adapter

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


def check_hooks(tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Raise CaptureError for hooks on parameters or on the optimizer's step, which do not run."""
    for name, tensor in tensors.items():
        for attribute, what in TENSOR_HOOKS.items():
            if getattr(tensor, attribute, None):
                raise CaptureError(
                    f"{name} has {what}, which a compiled step does not run; put it into the "
                    "forward or the loss, or remove it"
                )
    here = any(getattr(optimizer, name, None) for name in STEP_HOOKS)
    if here or any(getattr(torch_optimizer, name, None) for name in GLOBAL_HOOKS):
        raise CaptureError(
            "the optimizer has a hook on its step, which a compiled step does not run; call it "
            "around step(x, y), or remove it"
        )


def _is_exported(module: nn.Module) -> bool:
    """Whether the module's ``train`` only raises, as that of torch.export's modules does."""
    return isinstance(module, torch.fx.GraphModule) and "train" in vars(module)


def _layer(name: str) -> str:
    return f"layer {name!r}" if name else "the model"
