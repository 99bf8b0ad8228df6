"""A study as a picture: how the losses fell, and what was reached over bit operations.

Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bench.plot import start_plot
from .plan import Script
from .results import RecipeRow, in_order

COLOURS = 10


def plot_study(rows: Sequence[RecipeRow], script: Script, path: Path) -> None:
    """Curves of training, beside a number a recipe at the mean of its seeds.

    A line goes from the lowest to the highest of them. The legend says which recipe a number is,
    the dearest in bit operations first: names beside the points would lie on each other.
    """
    figure, (left, right) = start_plot().subplots(1, 2, figsize=(14, 5.5), layout="constrained")
    for n, row in enumerate(in_order(rows, script), start=1):
        colour = f"C{n % COLOURS}"
        _curves(left, row, script, colour)
        _point(right, row, script, n, colour)
    left.set(xlabel="step", ylabel="training loss")
    measure = "test perplexity" if script.tokens else "test accuracy, %"
    right.set(xlabel="GBitOPs of a training", ylabel=measure, xscale="log")
    figure.suptitle(script.words, fontsize="small", wrap=True)
    left.grid(alpha=0.3)
    right.grid(alpha=0.3)
    if right.lines:
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    figure.savefig(path)


def _curves(axis: Any, row: RecipeRow, script: Script, colour: str) -> None:
    """The loss of each seed, at the middle of what each number is the mean of."""
    for losses in row.curves:
        steps = (np.arange(len(losses)) + 0.5) * script.steps / max(len(losses), 1)
        axis.plot(steps, losses, color=colour, linewidth=1.0, alpha=0.8)


def _point(axis: Any, row: RecipeRow, script: Script, number: int, colour: str) -> None:
    giga, found = row.giga(script), row.shown(script)
    if giga is None or not found:
        return
    axis.vlines(giga, min(found), max(found), color=colour, linewidth=0.8, alpha=0.6)
    axis.plot(
        giga, np.mean(found), marker=f"${number}$", markersize=7 + 5 * (number > 9),
        linestyle="none", color=colour, label=row.entry.label,
    )  # fmt: skip
