"""The command line's flags that complete a bare model or an ONNX network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class BareFlags:
    """The flags for a bare model; None where the user gave none.

    ``input`` is the shape of one example (``3x32x32``), ``classes`` the number of its outputs.
    ``network_output`` and ``freeze`` are for ONNX networks alone: the output that the loss takes,
    and patterns of parameters that are not trained.
    """

    input: str | None = None
    classes: int | None = None
    loss: str | None = None
    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    nesterov: bool | None = None
    network_output: str | None = None
    freeze: Sequence[str] | None = None

    def given(self) -> list[str]:
        """The flags that the user gave, as typed."""
        names = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in names]
