"""The page of a ``.qtn`` file: where it may be written, and what a GPU's peaks say for it."""

from __future__ import annotations

from pathlib import Path

from ..compiler.errors import UsageError
from ..runtime.files import write_bytes
from ..runtime.page.belonging import of_step
from ..runtime.page.source import KernelTimes, PageSource, WatchedRows
from ..runtime.report.costs import Costs
from ..runtime.report.tables import size
from ..runtime.watched.reading import read_rows
from ..targets.plan.plan import Plan
from . import terminal
from .files import check_writable
from .opened import Opened
from .stages import stage

SUFFIXES = (".html", ".htm")


def check_page(path: Path) -> None:
    """UsageError or FileError now, ahead of long work, where ``path`` is no place for a page."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--html writes an .html file, not {str(path)!r}; for example net.html")
    check_writable(path)


def write_page(
    path: Path,
    opened: Opened,
    bill: Costs,
    plan: Plan | None,
    times: KernelTimes | None,
    watched: WatchedRows | None,
) -> None:
    """Draw the page, write it whole or not at all, and say so."""
    from ..runtime.page.render import page

    with stage("draw the page"):
        source = PageSource(bill, opened.recipe, tuple(opened.stages), plan, times, watched)
        text = page(source)
    said_of_page(path, text)


def said_of_page(path: Path, text: str) -> None:
    """Write a page whole or not at all, and say so."""
    data = text.encode()
    write_bytes(path, data)
    terminal.remark(f"{path}: {size(len(data))}, holds no weights and no batches")


def watched_of(path: Path, opened: Opened) -> WatchedRows:
    """What was watched of a file's step; FileError or InputError where ``path`` has none of it."""
    return of_step(read_rows(path), path.name or str(path), opened.stages)


def predicted_times(opened: Opened, plan: Plan) -> KernelTimes | None:
    """What published peaks say of each kernel; None where the target names no GPU."""
    from .planning import prediction_of

    found = prediction_of(plan, opened.target)
    if found is None:
        return None
    origin = f"predicted from peaks of {found.gpu.example}, each kernel alone, not measured"
    return KernelTimes(tuple(k.seconds for k in found.kernels), origin, measured=False)
