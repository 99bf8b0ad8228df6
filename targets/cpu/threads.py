"""The crew of TVM's pool of threads, which all compiled steps of a process share."""

from __future__ import annotations

import os
from functools import cache

from .crew import Crew
from .runtime import use_threads


@cache
def crew() -> Crew:
    """All CPUs that this process may use, or as many as ``TVM_NUM_THREADS`` said at the start.

    Its ``loop`` does nothing until there is a compiled step, which brings one.
    """
    return Crew(int(os.environ["TVM_NUM_THREADS"]), use_threads, lambda: None)
