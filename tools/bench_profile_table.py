"""The profile of a step for a person: where the time goes, and how near each kernel is to its
limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..runtime.bill_tables import table
from .bench_machine import MEMORY, share
from .bench_tables import NOTHING, milliseconds, percent

Part = Mapping[str, Any]
LONGEST_NAME = 44


def profile_tables(label: str, found: Mapping[str, Any]) -> Group:
    """Each distinct kernel, slowest first, and what the step takes beside their sum."""
    parts: Sequence[Part] = found["parts"]
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


def _kernels(parts: Sequence[Part], peaks: Mapping[str, float], total: float) -> Table:
    right = ("ms", "share", "calls", "us a call", "Gop/s", "GB/s", "of peak")
    made = table("Kernels", *right[:4], "kernel", "unit", *right[4:], right=right)
    for part in parts:
        seconds, n = part["seconds"], part["count"]
        work = part["operations"]
        rates = (
            f"{work / seconds / 1e9:.0f}" if work else NOTHING,
            f"{part['bytes'] / seconds / 1e9:.1f}",
            percent(of_peak(part, peaks)),
        )
        made.add_row(
            milliseconds(seconds * n),
            f"{100 * seconds * n / total:.1f} %",
            str(n),
            f"{1e6 * seconds:.0f}",
            _name(part),
            part["unit"] or NOTHING,
            *rates,
        )
    return made


def of_peak(part: Part, peaks: Mapping[str, float]) -> float | None:
    """The share of its limit that a kernel reaches: its unit's for a GEMM, else memory's."""
    if part["operations"]:
        return share(part["operations"], part["seconds"], peaks.get(part["unit"]))
    return share(part["bytes"], part["seconds"], peaks.get(MEMORY))


def _name(part: Part) -> str:
    name: str = part["kernel"]
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
