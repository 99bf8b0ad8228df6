"""Capture of the same training step for another batch: the model must be what it was.

Between two captures a user may freeze a layer, switch a module to eval or change a dropout rate. A
step that trained one program on even batches and another on odd ones would be wrong in silence, so
the first capture is made once more and compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import CaptureError
from ..ir import Program
from ..ir.difference import difference
from ..ir.ops import PRODUCTS
from ..lower.constants import PREFIX
from ..lower.programs import lower_evaluation
from .graph import Loss, trace_evaluation
from .optimizer import Optimizers
from .program import Capture, capture


class Again:
    """Captures of what ``first`` captured from ``model``, for batches of other sizes."""

    def __init__(
        self,
        first: Capture,
        model: nn.Module,
        loss: Loss,
        example: Sequence[torch.Tensor],
        optimizer: Optimizers,
    ) -> None:
        self.first, self.model, self.loss, self.optimizer = first, model, loss, optimizer
        self.training = {name: module.training for name, module in model.named_modules()}
        self.example = tuple((t.shape, t.stride(), t.dtype) for t in example)

    def capture(self, batch: Sequence[torch.Tensor] = (), *, outputs: bool = False) -> Capture:
        """The step for ``batch``, with each module in training or in eval as at the first capture.

        Without a batch that of the example; with ``outputs`` it gives those of the model too.
        Raises CaptureError where model, loss or optimizer are no longer what was compiled.
        """
        modules = dict(self.model.named_modules())
        found = {name: module.training for name, module in modules.items()}
        try:
            for name, training in self.training.items():
                if name in modules:
                    modules[name].training = training
            self._compare()
            given = batch or self._blank()
            made = capture(self.model, self.loss, given, self.optimizer, outputs=outputs)
            _demand_no_more(self.first.train, made.train)
            _demand_held(self.first.train, made.train)
            return made
        finally:
            for name, training in found.items():
                modules[name].training = training

    def evaluation(self, inputs: Sequence[torch.Tensor]) -> Program:
        """The evaluation for ``inputs``; raises as ``capture`` does."""
        _demand_same(self.first.evaluation, self._evaluation(self._blank()[:-1]))
        made = self._evaluation(inputs)
        _demand_held(self.first.train, made)
        return made

    def _compare(self) -> None:
        again = capture(self.model, self.loss, self._blank(), self.optimizer)
        _demand_same(self.first.train, again.train)
        _demand_same(self.first.evaluation, again.evaluation)

    def _evaluation(self, inputs: Sequence[torch.Tensor]) -> Program:
        traced = trace_evaluation(self.model, tuple(inputs), self.first.written)
        return lower_evaluation(traced).program

    def _blank(self) -> list[torch.Tensor]:
        """A batch like the example, of zeros."""
        return [torch.empty_strided(*size, dtype=dtype).zero_() for *size, dtype in self.example]


def _demand_held(first: Program, made: Program) -> None:
    """The constants of another batch size are among those that the step holds."""
    held = {v.name for v in first.state}
    if other := [v for v in made.state if v.name not in held and v.name.startswith(PREFIX)]:
        raise CaptureError(
            f"constants of the forward depend on the batch size ({other[0].type}), and a step "
            "holds those of one; compute them for the longest batch and slice, or give them as an "
            "input"
        )


def _demand_no_more(first: Program, made: Program) -> None:
    """Outputs are what the loss needs, or come of that without a product and a draw."""
    known = {op.origin for _, op in first.ops()}
    more = [op.origin for _, op in made.ops() if op.kind in PRODUCTS and op.origin not in known]
    held = {v.name for v in first.state}
    more += [v.name for v in made.state if v.name not in held and not v.name.startswith(PREFIX)]
    if more:
        raise CaptureError(
            f"outputs=True: an output needs {more[0]!r}, which the loss does not, and a step holds "
            "what its loss needs; leave it out of what the forward returns in training, or use it "
            "in the loss"
        )


def _demand_same(old: Program, new: Program) -> None:
    if said := difference(old, new):
        raise CaptureError(
            "a batch of another size, and outputs=True, compile the step once more, and the model, "
            f"its loss or its optimizer is no longer what was compiled: {said}; compile it again"
        )
