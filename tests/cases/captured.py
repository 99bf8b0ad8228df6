"""One capture for all steps that a file's tests compile of one network.

Recipes, options and targets begin behind the capture, which takes half of a small step's time.
Tests of capture itself make their own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import nn

from quatrain.compiler.capture.graph import Loss
from quatrain.compiler.capture.program import Capture, capture

_CAPTURES: dict[Hashable, Capture] = {}


@contextmanager
def captured_once(key: Hashable) -> Iterator[None]:
    """Meanwhile, or in the function that this decorates, ``quatrain.compile`` captures what ``key``
    names the first time that it meets it. All that a capture holds must follow from the key:
    network, numbers, loss, shapes of the batch, kind of optimizer."""

    def once(
        model: nn.Module,
        loss: Loss,
        example: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> Capture:
        if key not in _CAPTURES:
            _CAPTURES[key] = capture(model, loss, example, optimizer)
        return _CAPTURES[key]

    with patch("quatrain.tools.driver.capture", once):
        yield
