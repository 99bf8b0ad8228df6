"""The profile of a step for a person: where the time goes, and how near each kernel is to its
limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ...runtime.report.tables import table
from .machine import MEMORY, share
from .tables import NOTHING, milliseconds, whole_percent

KernelRecord = Mapping[str, Any]


def profile_tables(label: str, found: Mapping[str, Any]) -> Group:
    """Each distinct kernel, slowest first, and what the step takes beside their sum."""
    parts: Sequence[KernelRecord] = found["parts"]
    total = sum(p["seconds"] * p["count"] for p in parts)
    whole = found["step_seconds"]
    gemms = sum(p["seconds"] * p["count"] for p in parts if p["operations"])
    words = Text(
        f"\n{label}: a step takes {milliseconds(whole)} ms; its kernels, each alone, add up to "
        f"{milliseconds(total)} ms, {milliseconds(gemms)} ms of them in GEMMs"
    )
    note = Text(
        "of peak: Gop/s of the unit that multiplies; without GEMM, GB/s of memory (above 100 %: "
        "the data stay in cache)"
    )
    return Group(words, _kernels(parts, found["peaks"], total), note)


def _kernels(parts: Sequence[KernelRecord], peaks: Mapping[str, float], total: float) -> Table:
    left = ("ms", "share", "calls", "us")
    right = ("rate", "of peak")
    made = table("Kernels", *left, "kernel", "unit", *right, right=left + right)
    for part in parts:
        seconds, n = part["seconds"], part["count"]
        made.add_row(
            milliseconds(seconds * n),
            f"{100 * seconds * n / total:.1f} %",
            str(n),
            f"{1e6 * seconds:.0f}",
            part["kernel"],
            part["unit"] or NOTHING,
            _rate(part),
            whole_percent(of_peak(part, peaks)),
        )
    return made


def of_peak(part: KernelRecord, peaks: Mapping[str, float]) -> float | None:
    """The share of its limit that a kernel reaches: its unit's for a GEMM, else memory's."""
    if part["operations"]:
        return share(part["operations"], part["seconds"], peaks.get(part["unit"]))
    return share(part["bytes"], part["seconds"], peaks.get(MEMORY))


def _rate(part: KernelRecord) -> str:
    if part["operations"]:
        return f"{part['operations'] / part['seconds'] / 1e9:.0f} Gop/s"
    return f"{part['bytes'] / part['seconds'] / 1e9:.1f} GB/s"
