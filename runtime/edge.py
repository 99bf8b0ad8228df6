"""Where tensors go into an executable and come out of it: on the host, or on a device.

What lies on a device is looked at there, and nobody waits for it: a batch that does not hold what
it must is told later, and the state is as if it had not been given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ..compiler.errors import InputError
from ..compiler.ir import Value
from ..targets.plan.checks import DeviceArray, InputCheck
from ..targets.plan.layout import DTYPES
from ..targets.plan.pool import Block, TargetMemory
from ..targets.registry import Executable
from .inputs import check_batch, to_torch
from .taken import Taken, check_numbers

LARGEST = float(np.finfo(np.float32).max)
FLOATS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "i64": torch.int64}


@runtime_checkable
class DeviceExecutable(Protocol):
    """An executable that takes what lies on a device, and leaves results there."""

    def watch(self, checks: Sequence[InputCheck]) -> None:
        """Ask there whether inputs hold what they must; what does not changes no state."""

    def refused(self, *, wait: bool) -> tuple[int, ...]:
        """The checks that failed since the last look; without ``wait`` as far as is known."""

    def run(
        self, inputs: Sequence[object], old: Block, new: Block, into: Sequence[DeviceArray] = ()
    ) -> tuple[np.ndarray, ...]:
        """With ``into`` outputs are left there, and nobody waits."""


@runtime_checkable
class DeviceStreams(Protocol):
    """TargetMemory of a device, whose work can go on in another library's stream."""

    @property
    def place(self) -> str:
        """The device as torch calls it."""

    def follow(self, handle: int | None) -> None:
        """Go on in a stream, or, without one, in the own one."""


class Edge:
    """An executable as it meets tensors; ``batch`` are the inputs that a caller gives."""

    def __init__(
        self,
        executable: Executable,
        memory: TargetMemory,
        batch: Sequence[Value],
        checks: Sequence[Taken],
    ) -> None:
        self._executable, self._memory = executable, memory
        self._batch, self._checks = tuple(batch), tuple(checks)
        self._outputs = executable.program.outputs
        self._words: list[str] = []
        self._place = memory.place if isinstance(memory, DeviceStreams) else None
        if isinstance(executable, DeviceExecutable):
            executable.watch(self._asked())

    def _asked(self) -> list[InputCheck]:
        """What is asked of each input on a device, and the words for one that fails."""
        made = []
        for v in self._batch:
            if v.type.format.name == "f32":
                made.append(InputCheck(v.name, -LARGEST, LARGEST))
                self._words.append(f"{v.name} held NaN or infinity")
        for taken in self._checks:
            made.append(taken.asked())
            self._words.append(taken.words())
        return made

    def ready(self, batch: Sequence[object]) -> list[torch.Tensor]:
        """The batch as kernels can read it; InputError where it does not fit or hold what it must.

        What lies on a device is not looked at here.
        """
        self.look(wait=False)
        made = check_batch(batch, self._batch, self._place)
        check_numbers(made, self._batch, self._checks)
        return made

    def run(
        self, batch: Sequence[torch.Tensor], hyper: Sequence[np.ndarray], old: Block, new: Block
    ) -> list[torch.Tensor]:
        """The outputs; they are on the device where a tensor of the batch is."""
        there = next((t.device for t in batch if t.device.type != "cpu"), None)
        if there is None:
            self._follow(None)
            made = self._executable.run((*batch, *hyper), old, new)
            return [to_torch(m, v) for m, v in zip(made, self._outputs, strict=True)]
        self._follow(current_stream(there))
        given = [_device_array(t, v) for t, v in zip(batch, self._batch, strict=True)]
        outputs = [empty(v, there) for v in self._outputs]
        into = [_device_array(t, v) for t, v in zip(outputs, self._outputs, strict=True)]
        assert isinstance(self._executable, DeviceExecutable)
        self._executable.run((*given, *hyper), old, new, into)
        return [t if t.dtype is torch.int64 else t.float() for t in outputs]

    def _follow(self, stream: int | None) -> None:
        if isinstance(self._memory, DeviceStreams):
            self._memory.follow(stream)

    def look(self, *, wait: bool) -> None:
        """Raise InputError for a batch of before that did not hold what it must."""
        if isinstance(self._executable, DeviceExecutable):
            found = self._executable.refused(wait=wait)
            if found:
                words = " and ".join(self._words[i] for i in found)
                raise InputError(
                    f"in an earlier batch {words}; the steps of such batches were not applied, and "
                    "all others were: drop them"
                )


def _device_array(tensor: torch.Tensor, value: Value) -> Any:
    if tensor.device.type == "cpu":
        return tensor
    dtype = DTYPES[value.type.format.name]
    return DeviceArray(tensor.data_ptr(), tuple(tensor.shape), dtype)


def current_stream(device: torch.device) -> int:
    """The handle of torch's stream for what is done now."""
    return int(torch.cuda.current_stream(device).cuda_stream)


def empty(value: Value, device: torch.device) -> torch.Tensor:
    """Room for an output."""
    return torch.empty(value.type.shape, dtype=FLOATS[value.type.format.name], device=device)
