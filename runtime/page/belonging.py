"""Whether rows that were watched are of the step that a page shows."""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.errors import InputError
from ...compiler.ir import Program
from ..watched.row import WatchRow
from .source import WatchedRows


def of_step(
    rows: Sequence[WatchRow], origin: str, stages: Sequence[tuple[str, Program]]
) -> WatchedRows:
    """The rows by step; InputError where there are none, or the step has no such tensors."""
    if not rows:
        raise InputError(f"{origin} holds no rows: no step was looked at yet")
    known = {
        (v.name, v.type.short)
        for _, program in stages
        for v in (
            *program.inputs,
            *program.state,
            *(v for _, op in program.ops() for v in op.results),
        )
    }
    for row in rows:
        if (row.value, row.format) not in known:
            name = stages[-1][1].name
            raise InputError(
                f"{origin} was watched of another network, or by another recipe: it tells of "
                f"{row.name} (the value {row.value} in {row.format}), which {name} here has not"
            )
    return WatchedRows(tuple(sorted(rows, key=lambda row: row.step)), origin)
