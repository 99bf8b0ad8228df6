"""The bill that a step hands out: it prints as tables, and ``html`` draws the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

from ..compiler.errors import InputError, shown
from ..compiler.ir import Program
from ..targets.plan.plan import Plan
from .files import path_of, write_bytes
from .page.belonging import of_step
from .page.source import CAPTURED, PageSource, WatchedRows
from .report.bill import Bill
from .source import Source
from .watched.reading import read_rows
from .watched.row import WatchRow

if TYPE_CHECKING:
    from .watching.watcher import Watcher

# What a page takes for what was watched.
Watched: TypeAlias = "Watcher | Sequence[WatchRow] | str | Path"


@dataclass(frozen=True, slots=True)
class StepBill(Bill):
    """A bill with what its page is drawn from."""

    shown: PageSource | None = field(default=None, repr=False, compare=False)

    __str__ = Bill.__str__

    @overload
    def html(self, *, watched: Watched | None = None) -> str: ...
    @overload
    def html(self, path: str | Path, *, watched: Watched | None = None) -> None: ...
    def html(self, path: str | Path | None = None, *, watched: Watched | None = None) -> str | None:
        """The page as one HTML file that needs nothing else: its text, or written to ``path``.

        ``watched`` is what ``step.watch`` gave, its rows, or the folder or file that they were
        written to: layer by layer over time. The page holds no weights and no batches. FileError
        where ``path`` cannot be written, InputError for rows of another step.
        """
        from .page.render import page

        assert self.shown is not None
        place = None if path is None else path_of(path)
        source = self.shown
        if watched is not None:
            source = replace(source, watched=_watched(watched, source.stages))
        text = page(source)
        if place is None:
            return text
        write_bytes(place, text.encode())
        return None


def _watched(given: Watched, stages: Sequence[tuple[str, Program]]) -> WatchedRows:
    """Rows as a person has them, of the step of ``stages``."""
    if isinstance(given, str | Path):
        place = path_of(given)
        return of_step(read_rows(place), place.name or str(place), stages)
    rows = given.rows() if hasattr(given, "rows") else given
    if not isinstance(rows, list | tuple) or not all(isinstance(row, WatchRow) for row in rows):
        raise InputError(
            f"watched is {shown(given)}; give what step.watch returned, its rows(), or a folder"
        )
    return of_step(rows, "step.watch", stages)


def report_of(
    bill: Bill, source: Source, stages: Sequence[tuple[str, Program]], plan: Plan | None
) -> StepBill:
    """``bill`` with its page: ``stages`` are the programs that the passes made of ``source``'s."""
    facts = {f.name: getattr(bill, f.name) for f in fields(bill)}
    programs = ((CAPTURED, source.train), *stages)
    return StepBill(**facts, shown=PageSource(bill, source.recipe, programs, plan))
