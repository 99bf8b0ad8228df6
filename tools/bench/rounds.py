"""Contenders take turns: in each round every one of them runs for a while, alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .process import ContenderFailed, Worker

# Long enough that the first steps after a pause do not count for much; one step at least.
TURN_SECONDS, MOST_STEPS = 0.6, 20
# Threads of the one before spin for some milliseconds before they sleep.
PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class Racer:
    """One contender of a race; ``error`` says why it is out, ``rounds`` holds seconds a step."""

    name: str
    worker: Worker | None = None
    error: str | None = None
    pace: float = 0.0
    rounds: list[float] = field(default_factory=list)

    def ask(self, do: str, limit: float, **details: object) -> dict[str, Any] | None:
        """The reply of its process; None, and it is out, where that fails."""
        if self.error is not None or self.worker is None:
            return None
        try:
            return self.worker.ask(do, limit, **details)
        except ContenderFailed as failure:
            self.error = str(failure)
            return None

    @property
    def steps(self) -> int:
        """Steps of one turn."""
        return max(1, min(MOST_STEPS, round(TURN_SECONDS / max(self.pace, 1e-6))))


Tick = Callable[[str, float], None]


def race(racers: Sequence[Racer], rounds: int, limit: float, tick: Tick) -> None:
    """Run ``rounds`` rounds; a step's time in a round is the median of the turn's steps.

    The order rotates, so that nobody always follows the same other. ``tick`` is told who ran and
    the share of all work that this was.
    """
    for racer in racers:
        if reply := racer.ask("run", limit, steps=2):
            racer.pace = min(reply["seconds"])
    cost = {r.name: r.pace * (r.steps + 1) for r in racers if r.error is None}
    whole = rounds * sum(cost.values())
    for i in range(rounds):
        start = i % max(1, len(racers))
        for racer in (*racers[start:], *racers[:start]):
            if racer.error is not None:
                continue
            _turn(racer, limit)
            tick(racer.name, cost[racer.name] / whole)


def _turn(racer: Racer, limit: float) -> None:
    time.sleep(PAUSE_SECONDS)
    # One step more than are counted: it brings the data back into cache.
    if reply := racer.ask("run", limit, steps=racer.steps + 1):
        racer.rounds.append(median(reply["seconds"][1:]))
