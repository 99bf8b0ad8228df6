"""Results of a benchmark as tables: ratios first, then time, shares of the peaks, and costs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.report.tables import size, table
from .machine import BUSY_WORDS, MEMORY, Machine
from .results import ContenderRow, WorkloadResult, shares
from .stats import Spread

NOTHING = "-"
# Below this many columns a table leaves the shares of the peaks to --json.
WIDE = 92
RATES = ("Gop/s", "of int8", "of f32")


def machine_lines(machine: Machine) -> Text:
    """The facts of the machine, a line each."""
    units = f", {machine.mcpu}: {', '.join(machine.units)}" if machine.mcpu else ""
    lines = [
        f"{machine.cpu}{units}",
        f"{machine.threads} threads on {machine.cpus} CPUs, "
        f"OMP_WAIT_POLICY {machine.omp_wait_policy}, load {machine.load:.1f} at the start",
        ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
    ]
    if machine.peaks:
        found = [
            f"{name} {value:.0f} {'GB/s' if name == MEMORY else 'Gop/s'}"
            for name, value in machine.peaks.items()
        ]
        lines.append(f"measured peaks: {', '.join(found)}")
    else:
        lines.append(f"no peaks measured: {machine.without_peaks}")
    if machine.busy:
        lines.append(BUSY_WORDS)
    return Text("\n".join(lines))


def result_tables(result: WorkloadResult, machine: Machine, width: int = WIDE) -> Group:
    """Speed, cost, and who did not run, for ``width`` columns."""
    parts: list[RenderableType] = ["", _speed(result, machine, width >= WIDE), "", _cost(result)]
    failed = [r for r in result.rows if not r.ran]
    return Group(*parts, *([_failed(failed)] if failed else []))


def _speed(result: WorkloadResult, machine: Machine, wide: bool) -> Table:
    base, fastest = result.baseline, result.fastest_torch
    rounds = max((len(r.rounds) for r in result.rows), default=0)
    right = ("x base", "x torch", "ms", "quartiles", *(RATES if wide else ()))
    made = table(f"{result.workload.label}: medians of {rounds} rounds", "", *right, right=right)
    for row in sorted((r for r in result.rows if r.ran), key=lambda r: r.seconds.median):
        made.add_row(
            row.name,
            times(result.against(base, row)),
            times(result.against(fastest, row)),
            milliseconds(row.seconds.median),
            f"{milliseconds(row.seconds.low)}..{milliseconds(row.seconds.high)}",
            *(_rates(row, machine) if wide else ()),
        )
    if base and fastest:
        made.caption = (
            f"x base: times faster than {base.name}; x torch: than {fastest.name}, the fastest; "
            "medians of the ratios within a round"
        )
        made.caption_justify = "left"
    return made


def _rates(row: ContenderRow, machine: Machine) -> tuple[str, str, str]:
    gops, of_integer, of_float = shares(row, machine).values()
    return (
        NOTHING if gops is None else f"{gops:.3g}",
        whole_percent(of_integer),
        whole_percent(of_float),
    )


def _cost(result: WorkloadResult) -> Table:
    right = ("compile cold", "warm", "peak memory", "kept", "x base")
    made = table("What it costs (kept: bytes from forward to backward)", "", *right, right=right)
    base = result.baseline
    for row in (r for r in result.rows if r.ran):
        kept = row.saved_bytes
        theirs = base.saved_bytes if base else None
        made.add_row(
            row.name,
            seconds(row.cold),
            seconds(row.warm),
            _bytes(row.peak_bytes),
            _bytes(kept),
            f"{kept / theirs:.2f}" if kept is not None and theirs else NOTHING,
        )
    return made


def _failed(rows: Sequence[ContenderRow]) -> Table:
    made = table("Did not run", "", "why")
    for row in rows:
        made.add_row(row.name, row.error or "no round was run")
    return made


def sweep_table(results: Sequence[WorkloadResult], along: str) -> Table:
    """One line a size: milliseconds of each contender, and what the first of them costs."""
    names = [r.name for r in results[0].rows]
    first = names[0]
    columns = [*names, "x torch", "compile", "kept"]
    made = table(f"{first} as {along} grows: ms a step", along, *columns, right=tuple(columns))
    for result in results:
        rows = {r.name: r for r in result.rows}
        row = rows[first]
        sizes = {"batch": result.workload.batch, "width": result.workload.width}
        at = sizes.get(along, result.workload.depth)
        made.add_row(
            f"{at:.3g}" if isinstance(at, float) else str(at),
            *(milliseconds(rows[n].seconds.median) if rows[n].ran else NOTHING for n in names),
            times(result.against(result.fastest_torch, row)),
            seconds(row.cold),
            _bytes(row.saved_bytes),
        )
    return made


def times(found: Spread | None) -> str:
    """The median of a ratio."""
    return NOTHING if found is None else f"{found.median:.2f}"


def milliseconds(value: float) -> str:
    """Seconds as milliseconds in three digits."""
    ms = 1000 * value
    return f"{ms:.0f}" if ms >= 99.95 else f"{ms:.3g}"


def seconds(value: float | None) -> str:
    """Seconds in words."""
    return NOTHING if value is None else f"{value:.1f} s"


def whole_percent(share: float | None) -> str:
    """A share 0..1, or nothing."""
    return NOTHING if share is None else f"{100 * share:.0f} %"


def _bytes(n: int | None) -> str:
    return NOTHING if not n else size(n)
