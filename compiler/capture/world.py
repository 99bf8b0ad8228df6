"""What a forward reads of the world: random numbers, clocks. A step would keep them for ever.

Generators of the process belong to all threads, and what another one draws is no matter.
"""

from __future__ import annotations

import datetime
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import numpy as np

from ..errors import CaptureError
from .scope import is_library, own_line

LOG = logging.getLogger("quatrain")
See = Callable[[FrameType, str, Any], None]
DRAWING = ("random", "getrandbits")  # what all methods of Python's generator draw with
CLOCKS = frozenset(
    getattr(of, name)
    for of, names in (
        (time, "time monotonic perf_counter process_time thread_time localtime gmtime ctime"),
        (time, "time_ns monotonic_ns perf_counter_ns process_time_ns thread_time_ns strftime"),
        (datetime.datetime, "now utcnow today"),
        (datetime.date, "today"),
    )
    for name in names.split()
)


class DrawnMeanwhile(Exception):
    """Generators of the process have drawn during a run, for this thread or for another one."""


@contextmanager
def no_draws(*, watched: bool) -> Iterator[None]:
    """Raise CaptureError where this thread draws from Python's or NumPy's generators.

    Where other threads may have, DrawnMeanwhile; not if the thread is ``watched``, which takes
    longer and keeps others from NumPy's generator meanwhile.
    """
    seen = list[str]()
    with ExitStack() as stack:
        lock = np.random.get_bit_generator().lock  # type: ignore[attr-defined]
        alone = isinstance(lock, type(threading.RLock()))  # others would lock out this thread
        if watched:
            stack.enter_context(_profiled(lambda frame, event, f: _see_draw(seen, event, f)))
            if alone:
                stack.enter_context(lock)
        before = _generators()
        yield
        python, numpy = (a != b for a, b in zip(before, _generators(), strict=True))
    if watched:
        python = bool(seen)
    elif (python or numpy) and threading.active_count() > 1:
        raise DrawnMeanwhile
    if python or numpy:
        other = "" if python or alone else ", or another thread does meanwhile"
        raise CaptureError(
            f"the forward or the loss draws from Python's or NumPy's random numbers{other}, and a "
            "compiled step would keep those of its trace for ever; draw outside and give the "
            "result as an input, or take nn.Dropout"
        )


def _generators() -> tuple[object, object]:
    """The states of Python's and NumPy's generators."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), (kind, np.asarray(keys).tobytes(), *rest)


def _see_draw(seen: list[str], event: str, called: Any) -> None:
    own = random.random.__self__  # type: ignore[attr-defined]
    if event == "c_call" and called.__self__ is own and called.__name__ in DRAWING:
        seen.append(called.__name__)


@contextmanager
def clocks_told() -> Iterator[None]:
    """Warn of each line of the user's that reads a clock, or the system's random bytes."""
    told = dict[str, str]()

    def see(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or not (called in CLOCKS or called is os.urandom):
            return
        lines = list(_lines(frame))
        if called is os.urandom or not is_library(lines[0][0]):
            told.setdefault(own_line(lines), called.__name__)

    try:
        with _profiled(see):
            yield
    finally:
        for place, name in told.items():
            LOG.warning(
                "%s reads %s() while it is traced: a step keeps what it said then for ever; give "
                "what changes as an input",
                *(place, name),
            )


def _lines(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


@contextmanager
def _profiled(see: See) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(before)
