"""A sweep over accelerators as a picture; needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..bench.plot import start_plot
from .sweep import SweepRow

MARKERS = "osD^vP*Xph<>"
COLOURS = 10


def plot_cost(rows: Sequence[SweepRow], path: Path) -> None:
    """Energy over time of a sample, a panel a network: a colour a recipe, a marker a machine."""
    networks = list(dict.fromkeys(row.network for row in rows))
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    machines = list(dict.fromkeys(row.machine for row in rows))
    width = 4.2 * len(networks) + 2.4
    figure, axes = start_plot().subplots(
        1, len(networks), figsize=(width, 4.6), layout="constrained", squeeze=False
    )
    for axis, network in zip(axes[0], networks, strict=True):
        axis.set(title=network, xlabel="ms a sample", xscale="log", yscale="log")
        axis.grid(alpha=0.3, which="both", linewidth=0.4)
        for row in rows:
            if row.network == network and row.cost is not None and row.cost.seconds:
                axis.plot(
                    1e3 * row.cost.seconds / row.cost.samples,
                    1e3 * row.cost.joules / row.cost.samples,
                    marker=MARKERS[machines.index(row.machine) % len(MARKERS)],
                    color=f"C{recipes.index(row.recipe) % COLOURS}", linestyle="none", alpha=0.85,
                )  # fmt: skip
    axes[0][0].set_ylabel("mJ a sample")
    first = axes[0][-1]
    handles = [
        *first.plot([], [], color="none", label="recipe"),
        *(
            first.plot([], [], marker="s", color=f"C{i % COLOURS}", linestyle="none", label=name)[0]
            for i, name in enumerate(recipes)
        ),
        *first.plot([], [], color="none", label="on"),
        *(
            first.plot(
                [], [], marker=MARKERS[i % len(MARKERS)], color="0.4", linestyle="none", label=name
            )[0]
            for i, name in enumerate(machines)
        ),
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(path)
