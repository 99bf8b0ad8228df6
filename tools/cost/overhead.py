"""What quantizing adds to a step: conversions, scales and statistics, a table for each recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ...runtime.cost.between import SCALES
from ...runtime.report.bill import Bill
from ...runtime.report.op_counts import OpCount
from ...runtime.report.tables import count, size, table
from .bills import LabelledBill

HEADS = ("tensors", "operations", "read", "written")
NOTE = (
    "operations: additions, multiplications, functions, random numbers; read, written: of each op "
    "by itself, kernels fuse some; what the first step alone does is left out"
)


@dataclass(frozen=True, slots=True)
class Overhead:
    """All ops of a step that do one thing: how often, their arithmetic, bytes read and written."""

    what: str
    tensors: int
    operations: int
    read: int
    written: int


def overheads(bill: Bill) -> list[Overhead]:
    """Of each kind of op that converts numbers, or decides or applies scales; in program order.

    What the first step alone does is left out.
    """
    groups: dict[str, list[OpCount]] = {}
    for op in bill.ops:
        if op.converted or op.op in SCALES:
            groups.setdefault(_what(op), []).append(op)
    found = [_sum(what, ops) for what, ops in groups.items()]
    return [o for o in found if o.operations or o.read or o.written]


def overhead_dict(bill: Bill) -> list[dict[str, object]]:
    """The same as plain data."""
    return [
        {"what": o.what, "tensors": o.tensors, "operations": o.operations}
        | {"bytes_read": o.read, "bytes_written": o.written}
        for o in overheads(bill)
    ]


def overhead_tables(name: str, found: Sequence[LabelledBill]) -> Group:
    """A table a recipe, with the sum in its last row."""
    return Group(*(_table(f"{name} by {row.label}", row.bill) for row in found), Text(NOTE))


def _what(op: OpCount) -> str:
    """An op by its name, one that converts also by the format that it makes."""
    return f"{op.op} to {op.makes[0].partition('[')[0]}" if op.converted else op.op


def _sum(what: str, ops: Iterable[OpCount]) -> Overhead:
    found = list(ops)
    return Overhead(
        what,
        sum(o.times for o in found),
        sum(o.times * o.operations.count for o in found),
        sum(o.times * o.bytes_read for o in found),
        sum(o.times * o.bytes_written for o in found),
    )


def _table(title: str, bill: Bill) -> Table:
    found, made = overheads(bill), table(title, "op", *HEADS, right=HEADS)
    whole = Overhead(
        "all",
        sum(o.tensors for o in found),
        sum(o.operations for o in found),
        sum(o.read for o in found),
        sum(o.written for o in found),
    )
    for line in (*found, whole):
        if line is whole:
            made.add_section()
        cells = (str(line.tensors), count(line.operations), size(line.read), size(line.written))
        made.add_row(line.what, *cells)
    return made
