"""How many threads run a step: fewer while other programs hold the CPUs.

A parallel loop ends with its last thread. A thread that must wait for a CPU is late by a turn of
the operating system, about a millisecond, in every loop: a small step then takes a hundred times as
long. So now and then a loop without work is timed. Results do not depend on the number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

# Seconds: a loop of threads that are there takes a few microseconds.
LATE = 2e-4
LOOPS = 5
# Seconds from one look to the next, and until more threads are tried again, at least and at most.
PAUSE, PATIENCE, MOST_PATIENCE = 0.25, 0.5, 8.0


@dataclass(eq=False)
class Crew:
    """Up to ``most`` threads; ``use`` sets their number, ``loop`` runs a parallel loop."""

    most: int
    use: Callable[[int], None]
    loop: Callable[[], object]
    clock: Callable[[], float] = time.perf_counter
    count: int = field(init=False)
    _next: float = field(init=False)
    _grow: float = field(init=False)
    _patience: float = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def limit(self, most: int) -> None:
        """Set the number of threads, and begin with all."""
        self.most = most
        self._begin()
        self.use(most)

    def look(self) -> None:
        """Ahead of a step: take half of the threads while they come late, or try twice as many."""
        now = self.clock()
        if self.most == 1 or now < self._next:
            return
        late = self._late()
        if late:
            while late:
                self._take(self.count // 2)
                late = self._late()
            self._wait()
        elif self.count < self.most and now >= self._grow:
            before = self.count
            self._take(min(self.most, 2 * before))
            if self._late():
                self._take(before)
                self._wait()
            elif self.count == self.most:
                self._patience = PATIENCE
        self._next = self.clock() + PAUSE

    def _begin(self) -> None:
        self.count = self.most
        self._next = self._grow = 0.0
        self._patience = PATIENCE

    def _wait(self) -> None:
        self._grow = self.clock() + self._patience
        self._patience = min(2 * self._patience, MOST_PATIENCE)

    def _take(self, count: int) -> None:
        self.count = count
        self.use(count)
        self.loop()  # the first loop of a new number of threads starts them

    def _late(self) -> bool:
        return self.count > 1 and median(self._seconds() for _ in range(LOOPS)) > LATE

    def _seconds(self) -> float:
        start = self.clock()
        self.loop()
        return self.clock() - start
