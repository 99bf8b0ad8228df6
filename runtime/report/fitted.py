"""Tables made to fit: how wide each column of one may be, so that words and numbers stay whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table

# A word of so many letters is not cut; a longer one may be, where a line has no room for it. Where
# even that is too much, the next number holds.
WHOLE = (16, 12, 10, 8, 6)
# Without a frame rich sets columns apart by a space for each side and one for the divider.
GAP, SMALL_GAP = 3, 2


@dataclass(frozen=True, slots=True)
class _Need:
    """Letters: the least that a column can do with, and the most that it can use."""

    least: int
    most: int


def fit(item: RenderableType, console: Console, width: int) -> None:
    """Give the tables in ``item`` columns that fit ``width``, where they do not by themselves."""
    if isinstance(item, Group):
        for part in item.renderables:
            fit(part, console, width)
    elif isinstance(item, Padding):
        fit(item.renderable, console, width - item.left - item.right)
    elif isinstance(item, Table) and item.box is not None:
        _fit(item, console, width)


def _fit(table: Table, console: Console, width: int) -> None:
    needs, gap = _needs(table, console), GAP
    if sum(n.most for n in needs) + _gaps(needs, gap) <= width:
        return
    if _least(needs, gap) > width:
        _fold_headers(table.columns)
        needs = _needs(table, console)
    if _least(needs, gap) > width:
        table.collapse_padding, gap = True, SMALL_GAP
    for whole in WHOLE[1:]:
        if _least(needs, gap) > width:
            needs = _needs(table, console, whole)
    room = width - _least(needs, gap)
    if room < 0:
        return  # so narrow that rich may cut where it likes
    for column, found in zip(table.columns, _widths(needs, room), strict=True):
        column.width = found


def _least(needs: Sequence[_Need], gap: int) -> int:
    return sum(n.least for n in needs) + _gaps(needs, gap)


def _gaps(needs: Sequence[_Need], gap: int) -> int:
    """Between columns, and a space ahead of the first and behind the last."""
    return gap * (len(needs) - 1) + 2


def _needs(table: Table, console: Console, whole: int = WHOLE[0]) -> list[_Need]:
    return [_need(c, console, whole) for c in table.columns]


def _need(column: Column, console: Console, whole: int) -> _Need:
    cells = (column.header, *column.cells)
    found = [Measurement.get(console, console.options, cell) for cell in cells]
    most = max(m.maximum for m in found)
    if column.no_wrap:
        return _Need(most, most)
    return _Need(min(most, max(1, *(min(m.minimum, whole) for m in found))), most)


def _fold_headers(columns: Sequence[Column]) -> None:
    """Let the headers of numbers, which are wider than these are, take a line for each word."""
    for column in columns:
        if column.no_wrap and isinstance(column.header, str):
            column.header = column.header.replace(" ", "\n")


def _widths(needs: Sequence[_Need], room: int) -> list[int]:
    """Share ``room`` out, to each column by what it lacks."""
    lacks = [n.most - n.least for n in needs]
    whole = sum(lacks)
    if whole <= room:
        return [n.most for n in needs]
    return [n.least + room * lack // whole for n, lack in zip(needs, lacks, strict=True)]
