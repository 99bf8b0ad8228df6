"""Results of a benchmark as a picture; needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...compiler.errors import UsageError
from ..files import check_writable
from .layers import DIRECTIONS, KERNELS, LayerResult
from .machine import BUSY_WORDS
from .results import WorkloadResult
from .tables import milliseconds

FORMATS = (".svg", ".png", ".pdf")
COLOURS = {"quatrain": "tab:orange", "torch": "tab:blue", "fakequant": "tab:gray"}
MOST_PARTS = 25
DWARFED = 10  # a bar that is so many times shorter than the longest can hardly be read


def check_plot(path: Path, option: str = "--plot") -> None:
    """Raise UsageError, before anything is measured, where no picture can be made."""
    if path.suffix not in FORMATS:
        raise UsageError(f"{option} {path}: a picture ends in {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise UsageError("a picture needs matplotlib; pip install 'quatrain[plot]'")
    check_writable(path)


def plot_results(results: Sequence[WorkloadResult], path: Path, *, busy: bool = False) -> None:
    """A bar a contender with quartiles on it, a panel a workload; ``busy`` machines say so."""
    pyplot = start_plot()
    figure, axes = pyplot.subplots(
        len(results), 1, figsize=(9, 0.4 + 3.4 * len(results)), layout="constrained", squeeze=False
    )
    for axis, result in zip(axes[:, 0], results, strict=True):
        rows = sorted((r for r in result.rows if r.ran), key=lambda r: -r.seconds.median)
        for row in rows:
            s = row.seconds
            spread = [[1000 * (s.median - s.low)], [1000 * (s.high - s.median)]]
            axis.barh(
                row.name, 1000 * s.median, xerr=spread, capsize=3,
                color=COLOURS[row.contender.way.value],
            )  # fmt: skip
        axis.set(title=result.workload.label, xlabel="ms a step")
        _tell_bars(axis, [row.seconds.median for row in rows])
    _save(figure, path, busy)


def _tell_bars(axis: Any, seconds: Sequence[float]) -> None:
    """Numbers at the bars, and decades where the longest would make lines of the others."""
    if seconds and max(seconds) > DWARFED * min(seconds):
        axis.set(xscale="log", xlim=(500 * min(seconds), 2500 * max(seconds)))
        axis.set_xlabel(f"{axis.get_xlabel()} (each tick is ten times the one before)")
    for spot, value in enumerate(seconds):
        at, beside = (1000 * value, spot), (8, 5)
        axis.annotate(milliseconds(value), at, beside, textcoords="offset points", fontsize=8)


def _save(figure: Any, path: Path, busy: bool) -> None:
    if busy:
        figure.supxlabel(BUSY_WORDS, color="tab:red", fontsize=9)
    figure.savefig(path)


def plot_sweep(
    results: Sequence[WorkloadResult], along: str, path: Path, *, busy: bool = False
) -> None:
    """A line a contender: time a step over the size."""
    pyplot = start_plot()
    figure, axis = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for i, first in enumerate(results[0].rows):
        at = [(getattr(r.workload, along), r.rows[i]) for r in results if r.rows[i].ran]
        medians = [1000 * row.seconds.median for _, row in at]
        axis.plot([size for size, _ in at], medians, marker="o", label=first.name)
    axis.set(xlabel=along, ylabel="ms a step", xscale="log", yscale="log")
    axis.set_title(results[0].workload.network)
    axis.legend()
    _save(figure, path, busy)


def plot_layers(results: Sequence[LayerResult], path: Path, *, busy: bool = False) -> None:
    """Gop/s of each kernel over the layers, a panel a direction."""
    pyplot = start_plot()
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.5), layout="constrained", sharey=True)
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        chosen = [r for r in results if r.layer.direction == direction]
        names = [f"{r.layer.channels}\n{r.layer.size}x{r.layer.size}" for r in chosen]
        for kernel in KERNELS:
            axis.plot(names, [r.gops(kernel) or 0.0 for r in chosen], marker="o", label=kernel)
        axis.set(title=direction, xlabel="channels, pixels")
    axes[0].set(ylabel="Gop/s", ylim=(0, None))
    axes[0].legend()
    _save(figure, path, busy)


def plot_profile(label: str, found: Mapping[str, Any], path: Path, *, busy: bool = False) -> None:
    """The slowest kernels as bars."""
    pyplot = start_plot()
    parts = found["parts"][:MOST_PARTS][::-1]
    figure, axis = pyplot.subplots(figsize=(11, 1 + 0.3 * len(parts)), layout="constrained")
    spots = range(len(parts))
    times = [1000 * p["seconds"] * p["count"] for p in parts]
    colours = ["tab:orange" if p["operations"] else "tab:gray" for p in parts]
    axis.barh(spots, times, color=colours, tick_label=[p["kernel"] for p in parts])
    axis.set(title=f"{label}: the slowest kernels (orange: GEMMs)", xlabel="ms a step")
    _save(figure, path, busy)


def start_plot() -> Any:
    """matplotlib's pyplot, drawing into files."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot
