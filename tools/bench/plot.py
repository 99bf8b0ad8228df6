"""Results of a benchmark as a picture; needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...compiler.errors import UsageError
from ..files import check_writable
from .layers import DIRECTIONS, KERNELS, LayerResult
from .results import WorkloadResult

FORMATS = (".svg", ".png", ".pdf")
COLOURS = {"quatrain": "tab:orange", "torch": "tab:blue", "fakequant": "tab:gray"}
MOST_PARTS = 25


def check_plot(path: Path) -> None:
    """Raise UsageError, before anything is measured, where no picture can be made."""
    if path.suffix not in FORMATS:
        raise UsageError(f"--plot {path}: a picture ends in {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; pip install 'quatrain[plot]'")
    check_writable(path)


def plot_results(results: Sequence[WorkloadResult], path: Path) -> None:
    """A bar a contender and quartiles on it, a panel a workload."""
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
    figure.savefig(path)


def plot_sweep(results: Sequence[WorkloadResult], along: str, path: Path) -> None:
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
    figure.savefig(path)


def plot_layers(results: Sequence[LayerResult], path: Path) -> None:
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
    figure.savefig(path)


def plot_profile(label: str, found: Mapping[str, Any], path: Path) -> None:
    """The slowest kernels as bars."""
    pyplot = start_plot()
    parts = found["parts"][:MOST_PARTS][::-1]
    figure, axis = pyplot.subplots(figsize=(11, 1 + 0.3 * len(parts)), layout="constrained")
    spots = range(len(parts))
    times = [1000 * p["seconds"] * p["count"] for p in parts]
    colours = ["tab:orange" if p["operations"] else "tab:gray" for p in parts]
    axis.barh(spots, times, color=colours, tick_label=[p["kernel"] for p in parts])
    axis.set(title=f"{label}: the slowest kernels (orange: GEMMs)", xlabel="ms a step")
    figure.savefig(path)


def start_plot() -> Any:
    """matplotlib's pyplot, drawing into files."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot
