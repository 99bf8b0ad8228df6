"""What takes long is told: a line through ``logging``, and on terminals one while a person waits.

The logger is called quatrain: what was compiled and how long that took at level INFO, settings that
change nothing and caches that cannot be written at WARNING.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOG = logging.getLogger("quatrain")
# What takes less is not worth a line on a terminal.
SLOW_SECONDS = 2.0
# Whether the program shows by itself what it does, as the command line does.
SHOWN = ContextVar("shown", default=False)


@contextmanager
def told(words: str) -> Iterator[None]:
    """Log ``words`` with the seconds that the block took, unless it raised.

    Where stderr is a terminal that nothing else writes on, they appear there if it takes long.
    """
    start = time.monotonic()
    waiting = None if SHOWN.get() or not _on_terminal() else _Waiting(words)
    try:
        yield
    finally:
        if waiting is not None:
            waiting.stop(time.monotonic() - start)
    LOG.info("%s: %.1f s", words, time.monotonic() - start)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class _Waiting:
    """A line on stderr, begun when a block has become slow and ended with its seconds."""

    def __init__(self, words: str) -> None:
        self._words, self._begun = words, False
        self._timer = threading.Timer(SLOW_SECONDS, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def _begin(self) -> None:
        self._begun = True
        sys.stderr.write(f"quatrain: {self._words} ...")
        sys.stderr.flush()

    def stop(self, seconds: float) -> None:
        """End the line if there is one."""
        self._timer.cancel()
        self._timer.join()
        if self._begun:
            sys.stderr.write(f" {seconds:.1f} s\n")
