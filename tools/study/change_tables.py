"""What changes against one row: a table of accuracies with differences, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from rich.console import Group, RenderableType

from ...runtime.report.tables import table
from ..bench.tables import NOTHING
from .entry import Entry
from .plan import Script
from .results import RecipeRow
from .tables import PERPLEXITY, about, failures, number

POINTS = ("change", "by seed")
REST = ("loss", "GBitOPs")


def change_tables(
    rows: Sequence[RecipeRow], script: Script, seeds: int, title: str, base: Entry | None = None
) -> Group:
    """The rows in the order given; with a ``base`` also how far each is from it."""
    measure = PERPLEXITY if script.tokens else "accuracy %"
    right = (measure, "spread", *(POINTS if base else ()), *REST)
    made = table(title, "", *right, right=right)
    against = next((r for r in rows if base and r.entry.digest == base.digest), None)
    for row in rows:
        made.add_row(*_cells(row, script, against, base is not None))
    made.caption = _caption(script, against)
    made.caption_justify = "left"
    parts: list[RenderableType] = [*about(script, seeds), "", made]
    return Group(*parts, *failures(rows))


def _caption(script: Script, base: RecipeRow | None) -> str:
    said = "spread: lowest and highest seed; loss: of training, in the last epoch"
    if base is None:
        return said
    unit = "" if script.tokens else ", in points"
    return (
        f"change: from {base.entry.label}{unit}, the mean over the same seeds, and the least and "
        f"the largest of them: a change on both sides of 0 is none that they can show; {said}"
    )


def _cells(row: RecipeRow, script: Script, base: RecipeRow | None, changes: bool) -> list[str]:
    found = row.shown(script)
    if not found:
        return [row.entry.label, "failed"]
    cells = [row.entry.label, number(mean(found), script), _spread(found, script)]
    if changes:
        apart = [] if base is None or base is row else differences(base, row, script)
        cells.append(_signed(mean(apart), script) if apart else NOTHING)
        ends = (_signed(f(apart), script) for f in (min, max)) if apart[1:] else [NOTHING]
        cells.append("..".join(ends))
    loss, spent = row.loss, row.giga(script)
    cells.append(NOTHING if loss is None else f"{loss:.3g}")
    return [*cells, NOTHING if spent is None else f"{spent:.3g}"]


def _spread(found: Sequence[float], script: Script) -> str:
    return "..".join(number(f(found), script) for f in (min, max)) if found[1:] else NOTHING


def _signed(value: float, script: Script) -> str:
    return f"{value:+.3g}" if script.tokens else f"{value:+.1f}"


def differences(base: RecipeRow, row: RecipeRow, script: Script) -> list[float]:
    """What each seed that ended well on both sides reached more than the base did."""
    ours, theirs = row.by_seed(script), base.by_seed(script)
    return [ours[part] - theirs[part] for part in ours if part in theirs]
