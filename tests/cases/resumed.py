"""A step that is saved and loaded goes on with the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import quatrain
from quatrain.runtime.step import Step


def goes_on(step: Step, batches: Sequence[tuple[Tensor, ...]], folder: Path) -> None:
    """Losses and state of a step and of itself from a file are equal to the bit."""
    step.save(folder / "a.qtn")
    again = quatrain.load(folder / "a.qtn")
    for batch in batches:
        assert torch.equal(step(*batch), again(*batch))
    for key, value in step.state.items():
        assert torch.equal(value, again.state[key]), key
