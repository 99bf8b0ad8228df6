"""A number of watched tensors over the steps, as data and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rich.table import Table
from rich.text import Text

from ..compiler.errors import UsageError, closest
from ..runtime.report.tables import percent, table
from ..runtime.watched.row import WatchRow

# What can be shown, and whether it is a share.
FIELDS: Mapping[str, bool] = {
    **dict.fromkeys(("largest", "mean", "rms", "sqnr", "gain", "clip", "scale"), False),
    **dict.fromkeys(("cosine", "error", "fp32_gain"), False),
    **dict.fromkeys(("underflow", "saturation", "changed", "oscillation"), True),
}
# As many steps as 80 columns have room for beside a long name.
MOST_STEPS = 5


@dataclass(frozen=True, slots=True)
class WatchedSeries:
    """One number of a tensor: its value at each step that knows it."""

    name: str
    format: str
    field: str
    values: Mapping[int, float]

    def to_dict(self) -> dict[str, object]:
        """Plain data, ready for JSON."""
        steps = {str(step): value for step, value in self.values.items()}
        return {"name": self.name, "format": self.format, "number": self.field, "steps": steps}


def series(rows: Sequence[WatchRow], patterns: Sequence[str], field: str) -> list[WatchedSeries]:
    """The tensors that fit and have this number, in the order of the rows; UsageError for none."""
    if field not in FIELDS:
        raise UsageError(f"--show: no number is called {field!r}; {closest(field, FIELDS)}")
    for pattern in patterns:
        if not any(_fits(row, pattern) for row in rows):
            known = sorted({word for row in rows for word in (row.name, row.role)})
            raise UsageError(f"no tensor fits {pattern!r}; {closest(pattern, known)}")
    fitting = [row for row in rows if any(_fits(row, p) for p in patterns or ("*",))]
    found: dict[str, tuple[str, dict[int, float]]] = {}
    for row in fitting:
        value = getattr(row, field)
        if value is not None:
            _, values = found.setdefault(row.name, (row.quantized or row.format, {}))
            values[row.step] = value
    if not found:
        known = [f for f in FIELDS if any(getattr(row, f) is not None for row in fitting)]
        raise UsageError(f"no tensor that fits has {field}; they have {', '.join(known)}")
    return [WatchedSeries(name, shown, field, v) for name, (shown, v) in found.items()]


def _fits(row: WatchRow, pattern: str) -> bool:
    """By name, by role or by both, as ``step.watch`` reads patterns."""
    names = (row.name, row.role, f"{row.layer}.{row.role}")
    return any(fnmatchcase(name, pattern) for name in names)


def watched_table(found: Sequence[WatchedSeries], field: str) -> Table:
    """A row a tensor, a column a step: the first, the last, and some between."""
    steps = _some(sorted({step for s in found for step in s.values}))
    heads = [str(step) for step in steps]
    made = table(f"{field} over the steps", "tensor", *heads, right=tuple(heads))
    for one in found:
        cells = (_cell(one.values.get(step), field) for step in steps)
        made.add_row(Text(one.name), *cells)
    return made


def _some(steps: Sequence[int]) -> list[int]:
    """At most ``MOST_STEPS`` of them, evenly spaced."""
    if len(steps) <= MOST_STEPS:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]


def _cell(value: float | None, field: str) -> str:
    if value is None:
        return ""
    return percent(value) if FIELDS[field] else f"{value:.3g}"
