"""What PyTorch keeps from forward to backward, as data."""

from __future__ import annotations

from dataclasses import dataclass

from .types import Shape


@dataclass(frozen=True, slots=True)
class Kept:
    """A storage that autograd keeps: layer and function that made it, its first owner's shape.

    ``bytes`` are those of the whole storage.
    """

    layer: str
    function: str
    shape: Shape
    bytes: int
