"""The plan of a compiled program for a person to read: one block per kernel."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..runtime.bill_tables import size, table
from .plan_view import BufferRow, KernelRow, PlanView


def tables(view: PlanView) -> Group:
    """All kernels in order, with the arena's size first."""
    first = Text(
        f"{view.program} on {view.target}: {len(view.kernels)} kernels, "
        f"arena {size(view.arena)}, {size(view.saved_bytes)} of it kept for backward"
    )
    return Group(first, *(block for k in view.kernels for block in _kernel(k)))


def _kernel(row: KernelRow) -> tuple[Text, Padding]:
    title = Text("\n").append(f"{row.index:3}  ", "dim").append(row.kernel, "bold")
    title.append(f"  {row.layer or '-'}  ({row.region})", "cyan")
    title.append(f"\n     {', '.join(row.ops)}; multiplied in: {row.unit}")
    return title, Padding(_buffers(row.inputs, row.outputs), (0, 0, 0, 5))


def _buffers(inputs: Sequence[BufferRow], outputs: Sequence[BufferRow]) -> Table:
    made = table("", "", "value", "type", "order", "place", "bytes", right=("bytes",))
    made.title = None
    for word, rows in (("reads", inputs), ("makes", outputs)):
        for b in rows:
            place = f"{b.where}+{b.offset}"
            made.add_row(word, b.name, b.format, b.order, place, str(b.bytes))
            word = ""
    return made
