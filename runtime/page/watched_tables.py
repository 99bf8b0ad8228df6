"""Tables of what was watched: a row for each layer, the last numbers, the worst marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..report.tables import percent
from .watched import WatchedRun, WatchedTensor

EXACT = "exact"  # an infinite SQNR: all numbers fit
DATA, GRADIENTS = ("x", "a", "b"), ("dx", "da", "db")


@dataclass(frozen=True, slots=True)
class WatchedColumn:
    """A number of the tensors of some roles; ``bad`` is -1 where small is bad, 1 where large is.

    ``floor`` is what is never worth a mark.
    """

    head: str
    roles: tuple[str, ...]
    field: str
    words: Callable[[float], str]
    bad: int = 0
    floor: float = math.inf
    about: str = ""


@dataclass(frozen=True, slots=True)
class WatchedCell:
    """The last number of a tensor in words, and the place of the tensor, for its curve."""

    text: str
    tensor: int
    field: str
    value: float
    worst: bool = False


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A row for each layer; None where nothing is known."""

    columns: tuple[WatchedColumn, ...]
    rows: tuple[tuple[str, tuple[WatchedCell | None, ...]], ...]


def _decibel(x: float) -> str:
    return f"{x:.1f}" if math.isfinite(x) else EXACT if x > 0 else "NaN"


def _plain(x: float) -> str:
    return f"{x:.3g}"


def _power(x: float) -> str:
    """A power of two as such: scales are such."""
    mantissa, exponent = math.frexp(x)
    return f"2^{exponent - 1}" if mantissa == 0.5 and exponent > 10 else _plain(x)


def _three(x: float) -> str:
    return f"{x:.3f}"


OF_LAYERS = (
    WatchedColumn("x SQNR", DATA, "sqnr", _decibel, -1, 60, "of what it reads, in dB"),
    WatchedColumn("x clipped", DATA, "saturation", percent, 1, 0.01, "beyond the format's ends"),
    WatchedColumn("x clip", DATA, "clip", _plain, about="what the quantizer cuts at"),
    WatchedColumn("w SQNR", ("w",), "sqnr", _decibel, -1, 60, "of its weights, in dB"),
    WatchedColumn(
        "w turned", ("w",), "oscillation", percent, 1, 0.01, "codes that went to and fro"
    ),
    WatchedColumn("dY SQNR", ("dy",), "sqnr", _decibel, -1, 60, "of its gradient, in dB"),
    WatchedColumn("dY to 0", ("dy",), "underflow", percent, 1, 0.01, "numbers that became 0"),
    WatchedColumn("dY scale", ("dy",), "scale", _power, about="GradScale's factor"),
    WatchedColumn("dX cosine", GRADIENTS, "cosine", _three, -1, 0.9995, "with dX of a step in f32"),
    WatchedColumn("dW cosine", ("dw",), "cosine", _three, -1, 0.9995, "with dW of a step in f32"),
)
OF_NORMS = (
    WatchedColumn("mean", ("mean",), "error", percent, 1, 0.01, "distance from f32"),
    WatchedColumn("variance", ("var",), "error", percent, 1, 0.01, "distance from f32"),
    WatchedColumn("dgamma", ("dgamma",), "cosine", _three, -1, 0.9995, "cosine with f32"),
    WatchedColumn("dbeta", ("dbeta",), "cosine", _three, -1, 0.9995, "cosine with f32"),
)


def layer_table(run: WatchedRun) -> WatchedTable:
    """Layers that multiply."""
    return _table(run, OF_LAYERS)


def norm_table(run: WatchedRun) -> WatchedTable:
    """Norms over the batch, beside f32."""
    return _table(run, OF_NORMS)


def _table(run: WatchedRun, columns: Sequence[WatchedColumn]) -> WatchedTable:
    places: dict[str, list[tuple[int, WatchedTensor]]] = {}
    for i, tensor in enumerate(run.tensors):
        places.setdefault(tensor.layer, []).append((i, tensor))
    cells = [[_cell(c, some) for c in columns] for some in places.values()]
    by_column = [
        _marked(c, column) for c, column in zip(columns, zip(*cells, strict=True), strict=True)
    ]
    used = [i for i, column in enumerate(by_column) if any(column)]
    rows = ((layer, tuple(by_column[i][y] for i in used)) for y, layer in enumerate(places))
    return WatchedTable(
        tuple(columns[i] for i in used), tuple((layer, row) for layer, row in rows if any(row))
    )


def _cell(
    column: WatchedColumn, tensors: Iterable[tuple[int, WatchedTensor]]
) -> WatchedCell | None:
    """Of several tensors, such as the codes for dX and those for dW, the worst."""
    found = [
        WatchedCell(column.words(last[1]), i, column.field, last[1])
        for i, t in tensors
        if t.role in column.roles and (last := t.last(column.field)) is not None
    ]
    if not found:
        return None
    return max(found, key=lambda cell: _badness(column, cell)) if column.bad else found[0]


def _badness(column: WatchedColumn, cell: WatchedCell) -> float:
    return math.inf if math.isnan(cell.value) else column.bad * cell.value


def _marked(
    column: WatchedColumn, cells: Sequence[WatchedCell | None]
) -> tuple[WatchedCell | None, ...]:
    """The worst cell of a column, where there are others and it is worth it."""
    known = [cell for cell in cells if cell is not None]
    if not column.bad or len(known) < 2:
        return tuple(cells)
    worst = max(known, key=lambda cell: _badness(column, cell))
    if _badness(column, worst) <= column.bad * column.floor:
        return tuple(cells)
    return tuple(replace(worst, worst=True) if cell is worst else cell for cell in cells)
