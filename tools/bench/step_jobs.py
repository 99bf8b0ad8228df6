"""Whole training steps as jobs of a bench process: PyTorch's ways, fake quantization, quatrain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ...compiler.capture.optimizer import several
from ...compiler.capture.saved import kept_by_torch
from ...compiler.errors import UsageError
from .. import driver, env
from ..driver import Task
from ..fakequant import clips, fake_quantize, keep_clips_positive
from .plan import Contender, Runner, Workload
from .tasks import DECAY, operations, task

IMAGE_DIMENSIONS = 4
Forward = Callable[[Tensor, Tensor], Tensor]


def maker(request: Mapping[str, Any]) -> Callable[[], QuatrainStep | TorchStep]:
    """What makes the job of a request; all libraries that it needs are loaded here."""
    words = dict(request["contender"])
    contender = Contender(**{**words, "way": Runner(words["way"])})
    size = Workload(**request["workload"])
    torch.set_num_threads(env.threads())
    if contender.way is Runner.QUATRAIN:
        if env.target() == "cpu":
            import_module("...targets.cpu.target", __package__)
        return lambda: QuatrainStep(contender, task(size, fused=False))
    if contender.compiled:
        import_module("torch._inductor.compile_fx")
    return lambda: TorchStep(contender, task(size, fused=True))


def _in_bf16(forward: Forward) -> Forward:
    def run(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(x, y)

    return run


class QuatrainStep:
    """The compiled step."""

    def __init__(self, contender: Contender, task: Task) -> None:
        self._task = task
        self._step = driver.compile(
            task.model, task.loss, task.example, task.optimizer,
            recipe=contender.recipe, options=contender.options,
        )  # fmt: skip

    def step(self) -> Tensor:
        """One step; the loss."""
        return self._step(*self._task.example)

    def facts(self) -> dict[str, object]:
        """Bytes kept for backward by the plan (None where there is none), and operations."""
        plan = self._step.executable.plan
        return {
            "saved_bytes": plan.saved_bytes() if plan else None,
            "operations": operations(self._task.model, self._task.example[0]),
        }


class TorchStep:
    """A step as PyTorch's users write it."""

    def __init__(self, contender: Contender, task: Task) -> None:
        self._model, self._loss = task.model, task.loss
        self._optimizers = several(task.optimizer)
        self._x, self._y = task.example
        self.operations = operations(self._model, self._x)
        self._fake = contender.way is Runner.FAKEQUANT
        if self._fake:
            fake_quantize(self._model, self._x)
            trained = {"params": clips(self._model), "weight_decay": DECAY}
            self._optimizers[-1].add_param_group(trained)
        if contender.channels_last:
            self._to_channels_last()
        forward = _in_bf16(self._loss_of) if contender.dtype == "bf16" else self._loss_of
        self._forward = torch.compile(forward) if contender.compiled else forward

    def _to_channels_last(self) -> None:
        if self._x.dim() != IMAGE_DIMENSIONS:
            raise UsageError(f"channels_last is for images; a batch here is {list(self._x.shape)}")
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._x = self._x.contiguous(memory_format=torch.channels_last)

    def _loss_of(self, x: Tensor, y: Tensor) -> Tensor:
        return self._loss(self._model(x), y)

    def step(self) -> Tensor:
        """One step; the loss."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss = self._forward(self._x, self._y)
        loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
        if self._fake:
            keep_clips_positive(self._model)
        return loss.detach()

    def facts(self) -> dict[str, object]:
        """Bytes that autograd keeps, and operations."""
        owned = (*self._model.parameters(), *self._model.buffers(), self._x, self._y)
        kept = kept_by_torch(lambda: self._forward(self._x, self._y), owned)
        return {"saved_bytes": sum(s.bytes for s in kept), "operations": self.operations}
