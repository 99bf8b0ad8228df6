"""What a process of ``quatrain bench`` runs again and again."""

from __future__ import annotations

from typing import Protocol


class Job(Protocol):
    """A training step or a single kernel, made and ready."""

    def step(self) -> object:
        """Run once, to the end; a whole step returns its loss."""

    def facts(self) -> dict[str, object]:
        """What is worth knowing beside its time."""
