"""A comparison as a table: where two programs part first, and the error of each value."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.report.tables import table
from .distance import Gap
from .rows import ComparisonRows, Line, Parting, ValueRow, Where

WIDTH, MOST = 80, 40
NONE = "-"
NOISE = 1e-12  # of the cosine's own sums
HEADS = ("value", "format", "max abs", "rel", "SQNR", "cosine", "codes")


def tables(made: ComparisonRows, *, every: bool = False, most: int = MOST) -> RenderableType:
    """What was compared, where it parts, and rows; with ``every`` all of them.

    Else those that part and, if that makes few rows, those of one side alone.
    """
    shown = [r for r in made.rows if not r.again and (every or tells(r, made.tolerance))]
    if len(shown) > most and not every:
        shown = list(made.parted)
    left = 0 if every else max(0, len(shown) - most)
    parts: list[RenderableType] = [Text(f"A: {made.a}\nB: {made.b}"), finding(made)]
    if shown:
        parts.append(_rows(shown[: len(shown) - left], made))
    if left:
        parts.append(Text(f"... {left} more that part; --all shows all rows\n"))
    return Group(*parts, counts(made))


def as_text(made: ComparisonRows) -> str:
    """The table as text, for a file."""
    file = io.StringIO()
    console = Console(file=file, width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(tables(made))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def finding(made: ComparisonRows) -> Text:
    """The op where two programs part first, on both sides, and how its operands compare."""
    if made.first is None:
        close = f" within {made.tolerance:g} of the largest number" if made.tolerance else ""
        return Text(f"nothing that both have parts{close}")
    row = made.first.row
    layer = f", layer {row.layer}" if row.layer else ""
    lines = [f"first to part: {row.name} ({row.region}{layer})"]
    if made.first.a.text == made.first.b.text:
        lines += _op("", made.first.a.text, made.first, made.rows)
    else:
        lines += _op("A ", made.first.a.text, made.first, made.rows)
        lines += _op("B ", made.first.b.text, made.first, made.rows)
    if reads := _operands(made.first, {r.name: r for r in made.rows}):
        lines.append(f"  reads {reads}")
    return Text("\n".join(lines))


def _op(side: str, text: str, first: Parting, rows: Sequence[ValueRow]) -> list[str]:
    line: Line = first.b if side == "B " else first.a
    by = first.a.kernel or first.b.kernel if not side else line.kernel
    kernel = [f"  {'':{len(side)}}in kernel {by}"] if by else []
    return [f"  {side}{text}", *kernel] if text else []


def _operands(first: Parting, rows: Mapping[str, ValueRow]) -> str:
    """What the op of either side reads, and what is known of each."""
    names = dict.fromkeys((*first.a.reads, *first.b.reads))
    return ", ".join(f"{name} ({word(rows[name])})" for name in names)


def word(row: ValueRow) -> str:
    """How a value that an op reads compares, in a word or two."""
    if row.distance is None:
        return row.where.value
    if row.distance.equal:
        return "equal"
    return "differs" if row.distance.relative is None else f"off by {row.distance.relative:.0e}"


def tells(row: ValueRow, tolerance: float) -> bool:
    """Whether a row says anything: it parts, or is of one side alone."""
    return row.parts(tolerance) or row.where in (Where.ONLY_A, Where.ONLY_B)


def _rows(rows: Iterable[ValueRow], made: ComparisonRows) -> Table:
    grid = table("", *HEADS, right=HEADS[2:])
    grid.title = None
    grid.columns[1].max_width = 15
    for row in rows:
        mark = "> " if made.first is not None and row.name == made.first.row.name else ""
        grid.add_row(f"{mark}{row.name}", formats(row), *numbers(row))
    return grid


def formats(row: ValueRow) -> str:
    """The format of both sides, or of each."""
    a, b = (t.partition("[")[0] for t in (row.type_a, row.type_b))
    if row.where is Where.SHAPES:
        return f"{row.type_a} {row.type_b}"
    return a or b if a == b or not (a and b) else f"{a} {b}"


def numbers(row: ValueRow) -> list[str]:
    """The error in the columns behind the format."""
    if row.distance is None:
        return [row.where.value, *[""] * 4]
    d = row.distance
    if d.equal:
        return ["equal", *[""] * 4]
    if d.largest is None:
        return ["NaN, inf", "", "", "", _share(d)]
    return [
        f"{d.largest:.2g}",
        NONE if d.relative is None else f"{d.relative:.1e}",
        NONE if d.sqnr is None else f"{d.sqnr:.1f}",
        cosine(d),
        _share(d),
    ]


def cosine(d: Gap) -> str:
    """A cosine so that one that is not quite 1 does not read 1."""
    if d.cosine is None:
        return NONE
    text, below = f"{d.cosine:.4f}", 1 - d.cosine
    return f"1-{below:.0e}" if text == "1.0000" and below > NOISE else text


def _share(d: Gap) -> str:
    return NONE if d.codes is None else f"{100 * d.codes:.1f}%"


def counts(made: ComparisonRows) -> Text:
    """How many values there are of each kind."""
    rows = [r for r in made.rows if not r.again]
    seen = [r for r in rows if r.distance is not None]
    agree = sum(not r.parts(made.tolerance) for r in seen)
    said = [f"{len(made.parted)} values part, {agree} agree"]
    for where in (Where.ONLY_A, Where.ONLY_B):
        if n := sum(r.where is where for r in rows):
            said.append(f"{n} {where.value}")
    if n := sum(r.where is Where.HIDDEN for r in rows):
        said.append(f"{n} not seen (fused, in registers)")
    return Text("; ".join(said))
