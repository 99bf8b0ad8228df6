"""A study as a picture: accuracy over effective bit operations; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .bench_plot import start_plot
from .study_plan import Script
from .study_results import Row


def plot_study(rows: Sequence[Row], script: Script, path: Path) -> None:
    """A point a recipe at the mean of its seeds, a line from the lowest to the highest of them."""
    figure, axis = start_plot().subplots(figsize=(8, 5.5), layout="constrained")
    for i, row in enumerate(rows):
        giga, accuracy = row.giga(script), row.accuracy
        if giga is None or accuracy is None:
            continue
        found = row.accuracies
        reach = [[100 * (accuracy - min(found))], [100 * (max(found) - accuracy)]]
        axis.errorbar(giga, 100 * accuracy, yerr=reach, marker="o", capsize=3, color=f"C{i % 10}")
        axis.annotate(
            row.entry.label, (giga, 100 * accuracy), textcoords="offset points", xytext=(6, 4)
        )
    axis.set(xlabel="GBitOPs of a training", ylabel="test accuracy, %", xscale="log")
    axis.set_title(script.words, fontsize="small", wrap=True)
    axis.margins(x=0.15)
    figure.savefig(path)
