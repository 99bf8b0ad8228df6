"""A study as a picture: accuracy over effective bit operations; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..bench.plot import start_plot
from .plan import Script
from .results import RecipeRow, in_order


def plot_study(rows: Sequence[RecipeRow], script: Script, path: Path) -> None:
    """A number a recipe at the mean of its seeds, a line from the lowest to the highest of them.

    The legend says which recipe a number is, the dearest in bit operations first: names beside the
    points would lie on each other.
    """
    figure, axis = start_plot().subplots(figsize=(10, 5.5), layout="constrained")
    for n, row in enumerate(in_order(rows, script), start=1):
        giga, accuracy = row.giga(script), row.accuracy
        if giga is None or accuracy is None:
            continue
        colour, found = f"C{n % 10}", [100 * a for a in row.accuracies]
        axis.vlines(giga, min(found), max(found), color=colour, linewidth=0.8, alpha=0.6)
        axis.plot(
            giga, 100 * accuracy, marker=f"${n}$", markersize=7 + 5 * (n > 9), linestyle="none",
            color=colour, label=row.entry.label,
        )  # fmt: skip
    axis.set(xlabel="GBitOPs of a training", ylabel="test accuracy, %", xscale="log")
    axis.set_title(script.words, fontsize="small", wrap=True)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    figure.savefig(path)
