"""The stages of a long command: which one runs now, and how long the slow ones took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.text import Text

from ..runtime.telling import SHOWN, SLOW_SECONDS
from . import terminal


@contextmanager
def shown() -> Iterator[None]:
    """Let stages show themselves: so does the command line, but no program of a user's."""
    token = SHOWN.set(True)
    try:
        yield
    finally:
        SHOWN.reset(token)


@contextmanager
def stage(name: str, *, quiet: bool = False) -> Iterator[None]:
    """Show ``name`` while the block runs, on terminals; afterwards its seconds if it was slow.

    ``quiet`` leaves the seconds out.
    """
    if not SHOWN.get():
        yield
        return
    console = terminal.err()
    start = time.monotonic()
    if console.is_terminal:
        with console.status(Text(f"{name} ...")):
            yield
    else:
        yield
    seconds = time.monotonic() - start
    if seconds >= SLOW_SECONDS and not quiet:
        terminal.remark(f"{name}: {seconds:.1f} s")
