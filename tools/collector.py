"""Python's garbage collector, put off while a step is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def put_off() -> Iterator[None]:
    """No run of the collector inside; also a decorator.

    What capture, passes and imports make is kept, by the hundred thousand, and each run that this
    sets off walks all of torch: a quarter of the time of a compile.
    """
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()
