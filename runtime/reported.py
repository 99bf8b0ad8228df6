"""The bill that a step hands out: it prints as tables, and ``html`` draws the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import overload

from ..compiler.ir import Program
from ..targets.plan.plan import Plan
from .files import path_of, write_bytes
from .page.source import CAPTURED, PageSource
from .report.bill import Bill
from .source import Source


@dataclass(frozen=True, slots=True)
class StepBill(Bill):
    """A bill with what its page is drawn from."""

    shown: PageSource | None = field(default=None, repr=False, compare=False)

    __str__ = Bill.__str__

    @overload
    def html(self) -> str: ...
    @overload
    def html(self, path: str | Path) -> None: ...
    def html(self, path: str | Path | None = None) -> str | None:
        """The page as one HTML file that needs nothing else: its text, or written to ``path``.

        It holds no weights and no batches. FileError where ``path`` cannot be written.
        """
        from .page.render import page

        assert self.shown is not None
        place = None if path is None else path_of(path)
        text = page(self.shown)
        if place is None:
            return text
        write_bytes(place, text.encode())
        return None


def report_of(
    bill: Bill, source: Source, stages: Sequence[tuple[str, Program]], plan: Plan | None
) -> StepBill:
    """``bill`` with its page: ``stages`` are the programs that the passes made of ``source``'s."""
    facts = {f.name: getattr(bill, f.name) for f in fields(bill)}
    programs = ((CAPTURED, source.train), *stages)
    return StepBill(**facts, shown=PageSource(bill, source.recipe, programs, plan))
