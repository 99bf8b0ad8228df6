"""The tensors that suffer most as a table: little signal over noise, underflow, far from f32."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ..runtime.report.tables import percent, table
from ..runtime.watched.row import WatchRow
from ..runtime.watched.worst import worst


def watch_table(rows: Sequence[WatchRow]) -> Table:
    """The worst ones with all their numbers."""
    steps, names = {row.step for row in rows}, {row.name for row in rows}
    looks = f"{len(steps)} look{'s' if len(steps) > 1 else ''} at {len(names)} tensors"
    numbers = ("SQNR dB", "to 0", "clipped", "cos f32")
    made = table(f"Watched, step {rows[-1].step} ({looks})", "tensor", *numbers, right=numbers)
    for why, some in worst(rows).items():
        at = "" if some[0].step == rows[-1].step else f", step {some[0].step}"
        made.add_row(Text(f"{why}{at}", style="bold"))
        for row in some:
            made.add_row(f" {_named(row)}", *_numbers(row), end_section=row is some[-1])
    return made


def _named(row: WatchRow) -> str:
    return f"{row.name} {row.quantized or row.format}"


def _numbers(row: WatchRow) -> tuple[str, ...]:
    return (
        "" if row.sqnr is None else f"{row.sqnr:.1f}",
        "" if row.underflow is None else percent(row.underflow),
        "" if row.saturation is None else percent(row.saturation),
        "" if row.cosine is None else f"{row.cosine:.3f}",
    )
