"""A study as tables: accuracy beside cost, what multiplied in which formats, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.report.tables import size, table
from .. import env
from ..bench.machine import BUSY
from ..bench.tables import NOTHING, milliseconds, times
from ..doctor import cpu_name
from .entry import BASELINE
from .plan import WIDTHS, Script
from .results import RecipeRow, in_order

LEAST = 5e-4  # of all MACs; a smaller class would show as 0.0 %
RIGHT = ("accuracy %", "spread", "GBitOPs", "of f32 %", "kept", "ms", f"x {BASELINE}")
PERPLEXITY = "perplexity"  # stands for the accuracy where the data are text
BITS = tuple(f"{w} bit" for w in WIDTHS)


def study_tables(rows: Sequence[RecipeRow], script: Script, seeds: int) -> Group:
    """All tables; the first line says the budget."""
    parts = (*about(script, seeds), "", _costs(rows, script), "", _classes(rows, script))
    return Group(*parts, *failures(rows))


def about(script: Script, seeds: int) -> list[RenderableType]:
    """The budget and the machine, a line each."""
    return [
        Text(f"{script.words}, {seeds} seed{'s' if seeds > 1 else ''}"),
        Text(f"{cpu_name()}, {env.threads()} threads, target {script.target}"),
    ]


def failures(rows: Sequence[RecipeRow]) -> list[RenderableType]:
    """What failed and why, where anything did."""
    failed = [(r.entry.label, part, why) for r in rows for part, why in r.failures]
    return ["", _failed(failed)] if failed else []


def _costs(rows: Sequence[RecipeRow], script: Script) -> Table:
    right = (PERPLEXITY, *RIGHT[1:]) if script.tokens else RIGHT
    made = table("Accuracy and cost", "recipe", *right, right=right)
    for row in in_order(rows, script):
        bill, found = row.bill, row.shown(script)
        if bill is None:
            made.add_row(row.entry.label, "failed", *[NOTHING] * (len(RIGHT) - 1))
            continue
        made.add_row(
            row.entry.label,
            number(mean(found), script),
            "..".join(number(f(found), script) for f in (min, max)) if found[1:] else NOTHING,
            f"{row.giga(script):.3g}",
            _share(row.share(script) or 0.0),
            size(bill["saved_bytes"]),
            milliseconds(row.seconds.median) if row.seconds else NOTHING,
            times(row.speed),
        )
    busy = any((r.time or {}).get("load", 0.0) > BUSY * env.available_threads() for r in rows)
    made.caption = (
        "spread: lowest and highest seed; GBitOPs: bits times bits of all MACs of a training; "
        f"kept: bytes from forward to backward; ms: a step; x {BASELINE}: times faster than that "
        "recipe, median of the ratios within a round"
        + ("; other programs were running: the times are not the machine's" if busy else "")
    )
    made.caption_justify = "left"
    return made


def number(value: float, script: Script) -> str:
    """An accuracy in percent, or a perplexity."""
    return f"{value:.4g}" if script.tokens else f"{value:.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}" if value else NOTHING


def _classes(rows: Sequence[RecipeRow], script: Script) -> Table:
    made = table("Share of MACs in %", "recipe", *BITS, "operands", right=BITS)
    for row in in_order(rows, script):
        shares: dict[str, float] = {}
        for c in (row.bill or {}).get("classes", ()):
            shares[c["formats"]] = shares.get(c["formats"], 0.0) + c["share"]
        if row.bill is not None:
            widths = (_share(row.bill["widths"][str(w)]) for w in WIDTHS)
            words = (f"{f} {_share(s)}" for f, s in shares.items() if s >= LEAST)
            made.add_row(row.entry.label, *widths, "\n".join(words))
    made.caption = "bit: of the wider operand"
    made.caption_justify = "left"
    return made


def _failed(failed: Sequence[tuple[str, str, str]]) -> Table:
    made = table("What failed", "recipe", "part", "why")
    for line in failed:
        made.add_row(*line)
    return made
