"""Who watches a step: measures in every n-th call, keeps the rows, writes them to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any

from ...compiler.errors import InputError, shown
from ...passes.parts.watch_points import chosen_points, usual_words
from ..bound import BoundProgram
from ..files import path_of
from ..state import State
from ..telling import told
from ..watched.row import WatchRow, row_of
from .files import save_rows
from .folder import WatchFolder
from .oscillation import Oscillation
from .probe import Probe


class Watcher:
    """What ``Step.watch`` returns: ``rows()`` so far; ``close()`` ends it, as a ``with`` does.

    A step looks at the state and the batch ahead of its own update, so that a row of step 0 is of
    the network as it was at first.
    """

    def __init__(
        self,
        bound: BoundProgram,
        state: State,
        tensors: Sequence[str],
        *,
        every: int,
        fp32: int,
        to: str | Path | None,
    ) -> None:
        """InputError for a pattern that means nothing, FileError for a folder that cannot be."""
        self.patterns = _patterns(tensors) or usual_words(bound.passed)
        self.every = _every(every)
        self.fp32, self.closed = _looks(fp32), False
        chosen_points(bound.passed, self.patterns)
        self._rows: list[WatchRow] = []
        self._probes: dict[tuple[object, ...], Probe] = {}
        self._weights: dict[str, Oscillation] = {}
        self._folder = None if to is None else WatchFolder(to, state.done)

    def __repr__(self) -> str:
        """What it looks at, how often, and how many rows there are."""
        ended = ", closed" if self.closed else ""
        return (
            f"<Watcher of {self.patterns}: every {self.every} steps, {len(self._rows)} rows{ended}>"
        )

    def __enter__(self) -> Watcher:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def rows(self) -> list[WatchRow]:
        """All rows so far, by step, then in the order of the network."""
        return list(self._rows)

    def save(self, path: str | Path) -> None:
        """Write all rows to a file, whole or not at all: ``.jsonl`` or ``.csv`` by its name.

        A table of numbers has no room for distributions: those are in lines of JSON alone.
        """
        save_rows(self._rows, path_of(path))

    def close(self) -> None:
        """Look at no further step; what was written is complete."""
        self.closed = True
        self._probes.clear()
        if self._folder is not None:
            self._folder.close()

    def see(self, bound: BoundProgram, batch: Sequence[Any], state: State) -> None:
        """Measure ahead of a step, if it is one to be looked at; the step calls it."""
        if self.closed or (done := state.done) % self.every:
            return
        compares = self.fp32 > 0 and done % (self.every * self.fp32) == 0
        made = self._probe(bound, state, compares).run(batch, bound.hyper, state.old)
        rows = []
        for point, numbers in made:
            moved = None
            if "stored" in numbers:
                seen = self._weights.setdefault(point.name, Oscillation())
                moved = seen.see(numbers["stored"])
            rows.append(row_of(done, point, numbers, moved))
        self._rows += rows
        if self._folder is not None:
            self._folder.add(rows)

    def _probe(self, bound: BoundProgram, state: State, compares: bool) -> Probe:
        key = (compares, *(v.type.shape for v in bound.batch))
        if key not in self._probes:
            beside = " beside f32" if compares else ""
            with told(f"compile to watch {self.patterns}{beside}"):
                self._probes[key] = Probe(bound, state.layout, self.patterns, compares)
        return self._probes[key]


def _patterns(tensors: Sequence[str]) -> str:
    for t in tensors:
        if not isinstance(t, str):
            raise InputError(f"watch takes patterns as text, not {shown(t)}; such as '*.dy', 'w'")
    return ",".join(tensors) or ("," if tensors else "")


def _every(every: object) -> int:
    if isinstance(every, bool) or not isinstance(every, Integral) or every < 1:
        raise InputError(f"every is {shown(every)}; give a number of steps from 1 on")
    return int(every)


def _looks(fp32: object) -> int:
    """In one of how many looks to compare with f32; 0 is in none."""
    if not isinstance(fp32, Integral) or fp32 < 0:
        raise InputError(
            f"fp32 is {shown(fp32)}; 1 compares with f32 at each look, 4 at every fourth, 0 never"
        )
    return int(fp32)
