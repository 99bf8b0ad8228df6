"""Learning rates over a run: factors of the peak rate, functions of the share that is done."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..compiler.errors import UsageError, closest

# torch.optim.lr_scheduler.OneCycleLR's defaults.
WARM_SHARE, START, END = 0.3, 1 / 25, 1 / 25e4


def constant(done: float) -> float:
    """1 all the time."""
    return 1.0


def cosine(done: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * done))


def onecycle(done: float) -> float:
    """From 1/25 up to 1 in the first 30 %, then down to 1/250000, both along half a cosine."""
    if done < WARM_SHARE:
        return START + (1 - START) * (1 - cosine(done / WARM_SHARE))
    return END + (1 - END) * cosine((done - WARM_SHARE) / (1 - WARM_SHARE))


def triangle(done: float) -> float:
    """From 1/250000 up to 1 at half, and down again, both on a straight line."""
    return END + (1 - END) * (1 - abs(2 * done - 1))


SCHEDULES: dict[str, Callable[[float], float]] = {
    f.__name__: f for f in (constant, cosine, onecycle, triangle)
}


def schedule(name: str) -> Callable[[float], float]:
    """The schedule called ``name``: share of the run that is done (0..1) to a factor (0..1)."""
    if name not in SCHEDULES:
        raise UsageError(f"no schedule is called {name!r}; {closest(name, SCHEDULES)}")
    return SCHEDULES[name]
