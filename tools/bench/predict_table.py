"""A prediction for a person: steps beside PyTorch's roofline, and the kernels that take most."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.report.tables import count, size, table
from .predict import PredictedKernel, PredictedStep, PredictedWorkload
from .tables import NOTHING, milliseconds

SHOWN = 10
NOTE = (
    "Predicted from published peaks; not measured. A kernel takes its bytes over the bandwidth, its"
    " products over the unit's peak, or its launches, whichever is longest. PyTorch's is a lower"
    " bound: no launches, and the whole peak of tensor cores, of which our mma.sync reaches a part."
    ' "tensor cores": as if all products ran there that could; one of two bytes counts twice.'
)


def predict_tables(found: PredictedWorkload) -> Group:
    """The steps, then the kernels of each way to make it."""
    parts: list[RenderableType] = [Text(f"\n{found.label} on {found.gpu}"), Text(NOTE), ""]
    parts += [_steps(found), _memory(found)]
    parts += [_kernels(name, rows) for name, rows in found.kernels.items()]
    return Group(*parts)


def _steps(found: PredictedWorkload) -> Table:
    right = ("ms", "x torch", "memory", "products", "launches")
    made = table("A step, and ms of its kernels by what bounds them", "", *right, right=right)
    for row in found.steps:
        bounds = (row.bounds.get(name) for name in right[2:])
        made.add_row(
            row.name,
            milliseconds(row.seconds),
            f"{found.torch.seconds / row.seconds:.2f}",
            *(NOTHING if b is None else milliseconds(b) for b in bounds),
        )
    return made


def _memory(found: PredictedWorkload) -> Table:
    right = ("moved", "products", "launches", "kept")
    made = table("What it moves, multiplies and keeps for backward", "", *right, right=right)
    for row in found.steps:
        made.add_row(
            row.name, size(row.bytes), count(row.products), _launches(row), size(row.saved_bytes)
        )
    return made


def _launches(row: PredictedStep) -> str:
    return NOTHING if row.launches is None else str(row.launches)


def _kernels(name: str, rows: Sequence[PredictedKernel]) -> Table:
    left, right = ("ms", "calls", "us"), ("moved",)
    title = f"{name}: the kernels that take most, of {len(rows)}"
    made = table(title, *left, "kernel", "bound", *right, right=left + right)
    for row in rows[:SHOWN]:
        unit = f" {row.unit}" if row.products else ""
        made.add_row(
            milliseconds(row.count * row.seconds),
            str(row.count),
            f"{1e6 * row.seconds:.0f}",
            f"{row.kernel}{unit}",
            row.bound,
            size(row.bytes),
        )
    return made
