"""The page of a comparison: where two programs part, errors, both texts side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ...compiler.ir import Program
from ...runtime.page.deltas import deltas
from ...runtime.page.facts import Figure
from ...runtime.page.frame import filled
from .rows import END, ComparisonRows, Line, ValueRow
from .tables import HEADS, counts, formats, numbers, tells, word

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("charts", "programs", "compare")
STYLES = ("watched.css", "compare.css")
A, B = "A", "B"


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A row of the table in words; the larger ``worst`` is, the larger is the error."""

    row: ValueRow
    format: str
    numbers: tuple[str, ...]
    parts: bool
    tells: bool
    worst: float
    first: bool


def comparison_page(made: ComparisonRows, a: Program, b: Program) -> str:
    """The whole file as text."""
    stages = deltas(((A, a), (B, b)))
    values = [_value(row, made) for row in made.rows if not row.again]
    facts: dict[str, object] = {
        "made": made,
        "figures": figures(made),
        "sides": _sides(made),
        "reads": list(_reads(made)),
        "heads": HEADS[2:],
        "values": values,
        "counts": counts(made).plain,
        "stages": stages,
    }
    layers = dict.fromkeys(row.layer for row in made.rows if row.layer)
    data = {
        "stages": {"names": [A, B], **stages.to_dict()},
        "layers": [{"name": name} for name in layers],
        "values": list(map(_point, values)),
        "first": made.first and _first(made.first.row.name, made.first.a, made.first.b),
    }
    return filled("compare.html", facts, data, styles=STYLES, scripts=SCRIPTS, folder=TEMPLATES)


def figures(made: ComparisonRows) -> tuple[Figure, ...]:
    """What a reader asks first."""
    both = [row for row in made.rows if row.distance is not None and not row.again]
    within = f", by more than {made.tolerance:g} of the largest number" if made.tolerance else ""
    first = made.first.row if made.first else None
    ends = [row for row in made.rows if row.region == END and row.distance is not None]
    return (
        Figure("values part", str(len(made.parted)), f"of {len(both)} that both have{within}"),
        Figure(
            "first to part",
            first.name if first else "none",
            f"{first.op or first.region} of {first.layer or 'no layer'}" if first else "all agree",
        ),
        _worst("results", ends, "of loss, outputs and next states"),
        _worst("values", both, "of all values that both have"),
    )


def _worst(name: str, rows: list[ValueRow], of: str) -> Figure:
    """The row with the largest error over the largest number."""
    head = f"largest error of {name}"
    if not rows:
        return Figure(head, "-", "none can be compared")
    row = max(rows, key=_badness)
    bad = _badness(row)
    words = "0" if bad < 0 else "NaN, inf" if math.isinf(bad) else f"{bad:.1e}"
    return Figure(head, words, f"{of}: in {row.name}, over its largest number" if bad >= 0 else of)


def _badness(row: ValueRow) -> float:
    """Of equal ones less than 0, of what no number can say infinite."""
    if row.distance is None or row.distance.equal:
        return -1.0
    return math.inf if row.distance.relative is None else row.distance.relative


def _value(row: ValueRow, made: ComparisonRows) -> ShownValue:
    first = made.first is not None and row.name == made.first.row.name
    words = tuple(numbers(row))
    bad = min(_badness(row), 1e300)  # a number for the script
    return ShownValue(
        row, formats(row), words, row.parts(made.tolerance), tells(row, made.tolerance), bad, first
    )


def _point(value: ShownValue) -> dict[str, object]:
    row = value.row
    gap = {} if row.distance is None else asdict(row.distance)
    return {
        "name": row.name,
        "region": row.region,
        "layer": row.layer,
        "op": row.op,
        "format": value.format,
        "where": row.where.value,
        "equal": bool(gap.get("equal")),
    } | {key: gap.get(key) for key in ("relative", "sqnr", "cosine", "codes")}


def _first(name: str, a: Line, b: Line) -> dict[str, object]:
    return {"name": name, A.lower(): a.text, B.lower(): b.text}


def _sides(made: ComparisonRows) -> tuple[tuple[str, Line], ...]:
    """The op of each side, or one of both where they read alike."""
    if made.first is None:
        return ()
    a, b = made.first.a, made.first.b
    if a.text == b.text:
        return (("A and B", a if a.kernel else b),)
    return ((A, a), (B, b))


def _reads(made: ComparisonRows) -> Iterator[tuple[ValueRow, str, str]]:
    """What the op that parts reads on either side, and how each of it compares."""
    if made.first is None:
        return
    by_name = {row.name: row for row in made.rows}
    for name in dict.fromkeys((*made.first.a.reads, *made.first.b.reads)):
        yield by_name[name], formats(by_name[name]), word(by_name[name])
