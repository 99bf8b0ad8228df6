"""Batches on their way in: checked against the program, and laid out as kernels need them.

With ``step`` and ``evaluation`` the edges of the runtime, which know torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..compiler.errors import InputError
from ..compiler.ir import Value
from ..targets.plan.memory import ALIGNMENT
from .arrays import finite, plain

DTYPES = {"f32": torch.float32, "i64": torch.int64}


def check_batch(
    batch: Sequence[object], wanted: Sequence[Value], place: str | None = None
) -> list[torch.Tensor]:
    """The batch as tensors that kernels can read; a tensor that already fits is not copied.

    ``place`` is a device beside the CPU that they may lie on, as torch calls it.

    Raises InputError where the number of tensors, a shape, dtype or device differs, or where one of
    the host holds NaN or infinity.
    """
    if len(batch) != len(wanted):
        names = ", ".join(v.name for v in wanted)
        raise InputError(f"the step takes {len(wanted)} tensors ({names}), not {len(batch)}")
    return [_check(given, v, place) for given, v in zip(batch, wanted, strict=True)]


def check_dense(name: str, given: torch.Tensor) -> None:
    """Raise InputError for a tensor whose numbers do not lie in memory one behind another."""
    if given.is_nested or given.layout is not torch.strided:
        kind = "nested" if given.is_nested else str(given.layout).removeprefix("torch.")
        raise InputError(f"{name} is {kind}; give a dense tensor")
    if is_traced(given):
        raise InputError(
            f"{name} is traced or transformed by torch, as vmap, torch.func, torch.jit and "
            "torch.export do; a step is compiled kernels that they cannot look into: call it "
            "outside of them, with plain tensors"
        )


def is_traced(given: torch.Tensor) -> bool:
    """Whether torch follows a tensor through what it computes, with other numbers or none in it."""
    followed = type(given).__torch_dispatch__ != torch.Tensor.__torch_dispatch__
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if followed or tracing:
        return True
    # torch.compile gives tensors of numbers, and warns of the question.
    return not torch.compiler.is_compiling() and torch.func.debug_unwrap(given) is not given


def _check(given: object, value: Value, place: str | None) -> torch.Tensor:
    want, name = value.type, value.name
    if not isinstance(given, torch.Tensor):
        raise InputError(f"{name} is a {type(given).__name__}; give a torch tensor")
    check_dense(name, given)
    if given.device.type != "cpu" and str(given.device) != place:
        on = f"is on {place} and takes tensors of that or" if place else "takes tensors"
        raise InputError(f"{name} is on {given.device}; this step {on} of the CPU")
    dtype = DTYPES[want.format.name]
    if given.dtype is not dtype:
        raise InputError(f"{name} is {given.dtype}; the step was compiled for {dtype}")
    if tuple(given.shape) != want.shape:
        shapes = f"{list(given.shape)}; the step was compiled for {list(want.shape)}"
        raise InputError(f"{name} has shape {shapes}")
    ready = given.detach().resolve_neg().contiguous()
    on_host = ready.device.type == "cpu"
    if on_host and ready.is_floating_point() and not finite(ready.numpy()):
        raise InputError(
            f"{name} holds NaN or infinity, which spoils what is computed from it; drop it"
        )
    return ready.clone() if ready.data_ptr() % ALIGNMENT else ready


def to_torch(array: np.ndarray, value: Value) -> torch.Tensor:
    """An output of a program as a float32 or int64 tensor of its own memory."""
    return torch.from_numpy(plain(array, value.type))
