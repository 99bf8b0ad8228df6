"""Processes of a study: one for one job after the other, and several that train at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from ..bench.process import FAREWELL_SECONDS, ContenderDied, Worker

Lent = TypeVar("Lent")


class Process:
    """A process for one job after the other, started anew where one has died.

    ``variables`` and ``folder`` are those of the process, where they are not this one's.
    """

    def __init__(
        self, variables: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self._variables, self._folder = variables, folder
        self._worker: Worker | None = None
        self.closed = False

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def worker(self) -> Worker:
        """The process, started where there is none; ContenderDied once it is closed."""
        if self.closed:
            raise ContenderDied("the study was stopped")
        if self._worker is not None and not self._worker.alive:
            self._worker.close()
            self._worker = None
        if self._worker is None:
            self._worker = Worker(self._variables, self._folder)
        return self._worker

    def dismiss(self) -> None:
        """Let it end by itself when what it does now is done."""
        self.closed = True
        if self._worker is not None:
            self._worker.dismiss()

    def close(self, patience: float = FAREWELL_SECONDS) -> None:
        """End it, in so many seconds."""
        self.dismiss()
        if self._worker is not None:
            self._worker.close(patience)


class Squad:
    """Processes that train at the same time, each asked by a thread of its own.

    Leaving the ``with`` ends them all; what they write at that moment is written to its end.
    """

    def __init__(self, workers: int, variables: Mapping[str, str]) -> None:
        self._all = [Process(variables) for _ in range(workers)]
        self._idle: SimpleQueue[Process] = SimpleQueue()
        for process in self._all:
            self._idle.put(process)

    def __enter__(self) -> Squad:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.dismiss()
        end = time.monotonic() + FAREWELL_SECONDS
        for process in self._all:
            process.close(max(0.0, end - time.monotonic()))

    def lend(self, work: Callable[[Process], Lent]) -> Lent:
        """What is made with a process that does nothing else meanwhile."""
        process = self._idle.get()
        try:
            return work(process)
        finally:
            self._idle.put(process)
