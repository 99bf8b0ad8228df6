"""The crews of TVM's pools of threads: each thread that runs compiled steps has a pool."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache

from ...compiler.errors import TargetError
from .crew import Crew
from .runtime import use_threads


def all_threads() -> int:
    """All CPUs that this process may use, or as many as ``TVM_NUM_THREADS`` said at the start."""
    return int(os.environ["TVM_NUM_THREADS"])


class _Crews(threading.local):
    """A crew for each thread; a compiled step brings the loop."""

    def __init__(self) -> None:
        self.crew = Crew(all_threads(), use_threads, lambda: None)


_CREWS = _Crews()


@cache
def _first_process() -> int:
    """The process in which kernels ran first; one that is forked from it inherits the answer."""
    return os.getpid()


def crew(most: int, loop: Callable[[], object]) -> Crew:
    """The crew of the calling thread, of up to ``most`` threads, which ``loop`` can try out."""
    if most > 1 and _first_process() != os.getpid():
        raise TargetError(
            "a compiled step has run in the process that this one was forked from, and the threads "
            "of its kernels stayed there; start processes by 'spawn', or set QUATRAIN_THREADS=1"
        )
    found = _CREWS.crew
    found.loop = loop
    if found.most != most:
        found.limit(most)
    return found
