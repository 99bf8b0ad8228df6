"""What a time step of a recurrent layer has, for the backward's step that reads it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..ir import Value

StepKept = Mapping[str, Value]
"""What the gradient of a cell reads of its forward, by name."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes from step to step; an LSTM carries c too."""

    h: Value
    c: Value | None = None


@dataclass(frozen=True, slots=True)
class StepValues:
    """What was carried to a step, what its cell kept, h ahead of a projection, the mask."""

    before: Carried
    kept: StepKept
    unprojected: Value
    mask: Value | None
