"""Two runs of a forward, which torch makes for one trace: the same calls take the same numbers.

What differs came from outside: a clock, a generator, a counter. The program would have the number
of one run as a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np

from ..errors import CaptureError
from ..lower.joint import place
from .adapter import CallMark


class Repeated:
    """The numbers that calls of torch's functions take, of a run and of the one before it."""

    def __init__(self) -> None:
        self._before: list[tuple[CallMark, tuple[str, ...]]] = []
        self._now: list[tuple[CallMark, tuple[str, ...]]] = []

    def begin(self) -> None:
        """A run begins."""
        self._before, self._now = self._now, []

    def add(self, mark: CallMark, arguments: object) -> None:
        """A call of the run."""
        self._now.append((mark, tuple(_numbers(arguments))))

    def check(self) -> None:
        """Raise CaptureError for a number that is another one than in the run before.

        As long as both make the same calls: what the first one caches spares the second some.
        """
        for (mark, old), (again, new) in zip(self._before, self._now, strict=False):
            if mark != again or len(old) != len(new):
                return
            for a, b in zip(old, new, strict=True):
                if a != b:
                    raise _changed(mark, a, b)


def _changed(mark: CallMark, old: str, new: str) -> CaptureError:
    layer, source, name = mark
    return CaptureError(
        f"{name.strip('_')}() in {place(layer, source)} takes {old} in one run of the forward and "
        f"{new} in the next, and a compiled step would keep one of them for ever; give what a "
        "clock, a generator or a counter says as an input"
    )


def _numbers(value: object) -> Iterator[str]:
    """Numbers among arguments as text; of an array some of them and a digest of all."""
    if isinstance(value, (int, float, complex, np.number)):
        yield str(value)
    elif isinstance(value, np.ndarray):
        digest = crc32(np.ascontiguousarray(value).tobytes())
        yield f"an array of {value.reshape(-1)[:1]} ... ({digest:08x})"
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, dict):
        yield from _numbers(list(value.values()))
