"""The pass after which results first differ: both sides run after every pass.

Passes are tried in order, not by halves: a later one may hide what an earlier one did, and the
table of all of them says how much each adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from rich.console import Group, RenderableType
from rich.text import Text

from ...compiler.errors import UsageError
from ...runtime.report.tables import table
from ..dump import idle_programs
from .align import Comparison, Ran, compare_ran
from .rows import END, ValueRow
from .side import ComparedSide

RunSide = Callable[[ComparedSide], Ran]
RUN_HEADS = ("after pass", "A after", "results", "max rel", "SQNR", "first to part")
IDLE = "no change"


@dataclass(frozen=True, slots=True)
class StageRow:
    """B after one pass against A: of ``of`` results ``parted`` differ by more than the tolerance.

    ``relative`` is their largest error over the largest number (None: of NaN or zeros),
    ``sqnr`` the least; ``first`` is the first value to part. ``idle``: as the row before, as
    the pass changed nothing and A is the same.
    """

    stage: str
    against: str
    idle: bool
    parted: int
    of: int
    relative: float | None
    sqnr: float | None
    first: str


@dataclass(frozen=True, slots=True)
class Bisected:
    """All passes of B; ``found`` is the one after which results first differ, None where none."""

    a: str
    b: str
    tolerance: float
    rows: tuple[StageRow, ...]

    @property
    def found(self) -> StageRow | None:
        """The first pass after which a result parts."""
        return next((row for row in self.rows if row.parted), None)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and words."""
        found = self.found
        return {**asdict(self), "found": found and found.stage}


def bisect(a: ComparedSide, b: ComparedSide, tolerance: float, run: RunSide) -> Bisected:
    """Run B after each of its passes, and A after the last of its own that B has had by then.

    UsageError where B has none.
    """
    if not b.last:
        raise UsageError(f"{b.about}, has no passes to try; give --recipe-b or --pass-b")
    return Bisected(a.about, b.about, tolerance, tuple(_each(a, b, tolerance, run)))


def _each(a: ComparedSide, b: ComparedSide, tolerance: float, run: RunSide) -> Iterator[StageRow]:
    idle = idle_programs(b.stages)
    ran_a: dict[int, Ran] = {}
    last: tuple[int, StageRow] | None = None
    for i, (label, _) in enumerate(b.stages[: b.last + 1]):
        at = _matching(a, [name for name, _ in b.stages[: i + 1]])
        if last and last[0] == at and label in idle:
            row = replace(last[1], stage=label, idle=True)
        else:
            if at not in ran_a:
                ran_a = {at: run(a.at(at))}
            found = compare_ran(ran_a[at], run(b.at(i)), tolerance)
            row = _row(label, a.stages[at][0], found)
        last = at, row
        yield row


def _matching(a: ComparedSide, had: list[str]) -> int:
    """The last stage of A whose passes B has all had, in A's order."""
    place = 0
    for i, (name, _) in enumerate(a.stages[: a.last + 1]):
        if name not in had:
            break
        place = i
    return place


def _row(label: str, against: str, found: Comparison) -> StageRow:
    ends = [row for row in found.rows if row.region == END and row.distance is not None]
    parted = sum(row.parts(found.tolerance) for row in ends)
    first = found.first.row.name if found.first else ""
    apart = [row for row in ends if row.distance and not row.distance.equal]
    return StageRow(label, against, False, parted, len(ends), _worst(apart), _least(apart), first)


def _worst(rows: list[ValueRow]) -> float | None:
    found = [row.distance.relative for row in rows if row.distance]
    known = [x for x in found if x is not None]
    if not found:
        return 0.0
    return max(known) if known and len(known) == len(found) else None


def _least(rows: list[ValueRow]) -> float | None:
    return min(
        (row.distance.sqnr for row in rows if row.distance and row.distance.sqnr is not None),
        default=None,
    )


def bisect_tables(made: Bisected) -> RenderableType:
    """The passes, a row each, and the one that was looked for."""
    grid = table("", *RUN_HEADS, right=RUN_HEADS[2:5])
    grid.title = None
    for row in made.rows:
        name = f"{'> ' if row is made.found else ''}{row.stage}"
        if row.idle:
            grid.add_row(name, row.against, IDLE)
            continue
        parts = f"{row.parted} of {row.of}" if row.parted else "agree"
        numbers = ["" if not x else form.format(x) for x, form in _forms(row)]
        grid.add_row(name, row.against, parts, *numbers, row.first)
    return Group(Text(f"A: {made.a}\nB: {made.b}"), said(made), grid)


def _forms(row: StageRow) -> list[tuple[float | None, str]]:
    return [(row.relative, "{:.1e}"), (row.sqnr, "{:.1f}")]


def said(made: Bisected) -> Text:
    """What was found, in a line."""
    by = f" by more than {made.tolerance:g} of the largest number" if made.tolerance else ""
    if made.found is None:
        return Text(f"no pass makes results differ{by}")
    return Text(f"results first differ{by} after {made.found.stage}")
