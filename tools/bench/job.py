"""What a process of ``quatrain bench`` runs again and again."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Job(Protocol):
    """A training step or a single kernel, made and ready."""

    def step(self) -> object:
        """Run once, to the end; a whole step returns its loss."""

    def facts(self) -> dict[str, object]:
        """What is worth knowing beside its time."""


@runtime_checkable
class LastingJob(Protocol):
    """A job that may go on from where another process was stopped."""

    @property
    def done(self) -> int:
        """Steps behind it, those of the other process too."""

    @property
    def remark(self) -> str:
        """What there is to say of how it goes on; empty for nothing."""
