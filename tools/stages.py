"""The stages of a long command: which one runs now, and how long the slow ones took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.text import Text

from . import terminal

# A stage that took less is not worth a line.
SLOW_SECONDS = 2.0


@contextmanager
def stage(name: str, *, quiet: bool = False) -> Iterator[None]:
    """Show ``name`` while the block runs, on terminals; afterwards its seconds if it was slow.

    ``quiet`` leaves the seconds out.
    """
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
