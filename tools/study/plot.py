"""A study as a picture: how the losses fell, and what was reached over bits, time and options.

Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bench.plot import start_plot
from .groups import RECIPE, Drawn, changes, drawn, number_of, numeric_key
from .kept import KeptShot
from .labels import name_points
from .plan import Script
from .results import RecipeRow, in_order

WIDE, HIGH = 6.5, 5.0
MOST_NAMES = 8  # in the legend of the curves
DrawPanel = Callable[[Any], None]
Cost = Callable[[RecipeRow], float | None]


def plot_study(
    rows: Sequence[RecipeRow],
    script: Script,
    path: Path,
    by: str = RECIPE,
    shots: Sequence[KeptShot] = (),
) -> None:
    """Curves of training, what was reached over bit operations, and over time and a range if known.

    A point is the mean of the seeds, its line and the bands go from the lowest to the highest.
    Rows of a ``by`` share a colour. What a layer does alone is a panel where it was measured.
    """
    found = drawn(in_order(rows, script), by)
    panels = _panels(found, script, shots)
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure, axes = start_plot().subplots(
        lines, columns, figsize=(WIDE * columns, HIGH * lines), layout="constrained", squeeze=False
    )
    figure.suptitle(script.words, fontsize="small", wrap=True)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        axis.grid(alpha=0.3)
        panel(axis)
    figure.savefig(path)


def _panels(found: Sequence[Drawn], script: Script, shots: Sequence[KeptShot]) -> list[DrawPanel]:
    panels: list[DrawPanel] = []
    if found or not shots:
        panels.append(lambda axis: _curves(axis, found, script))
        what = "GBitOPs of a training"
        panels.append(lambda axis: _reached(axis, found, script, lambda r: r.giga(script), what))
    if any(d.row.seconds for d in found):
        panels.append(lambda axis: _reached(axis, found, script, _milliseconds, "ms a step"))
    if key := numeric_key([d.row for d in found]):
        panels.append(lambda axis: _over(axis, found, script, key))
    if shots:
        panels.append(lambda axis: _layers(axis, shots))
    return panels


def _measure(script: Script) -> str:
    return "test perplexity" if script.tokens else "test accuracy, %"


def _milliseconds(row: RecipeRow) -> float | None:
    return 1000 * row.seconds.median if row.seconds else None


def _curves(axis: Any, found: Sequence[Drawn], script: Script) -> None:
    """The loss of training, at the middle of what each number is the mean of."""
    lines = []
    for d in found:
        curves = [c for c in d.row.curves if c]
        if not curves:
            continue
        same = [c[: min(map(len, curves))] for c in curves]  # seeds may lose different steps
        steps = (np.arange(len(same[0])) + 0.5) * script.steps / len(same[0])
        (line,) = axis.plot(steps, np.mean(same, 0), d.line, color=d.colour, linewidth=1.2)
        lines.append((d, line))
        axis.fill_between(
            steps, np.min(same, 0), np.max(same, 0), color=d.colour, linewidth=0,
            alpha=0.15 if len(found) <= MOST_NAMES else 0.05,
        )  # fmt: skip
    axis.set(xlabel="step", ylabel="training loss", title="Learning curves")
    if len(axis.lines) <= MOST_NAMES:
        named = {d.row.entry.label: line for d, line in lines}
    else:  # each group by its first row
        named = {d.group: line for d, line in reversed(lines)}
    if named:
        axis.legend([*named.values()], [*named], fontsize="x-small", frameon=False)


def _reached(axis: Any, found: Sequence[Drawn], script: Script, cost: Cost, what: str) -> None:
    """A named point a row, and the line of those that no other row beats in both."""
    points = []
    for d in found:
        x, reached = cost(d.row), d.row.shown(script)
        if x is None or not reached:
            continue
        y = float(np.mean(reached))
        axis.vlines(x, min(reached), max(reached), color=d.colour, linewidth=0.9, alpha=0.6)
        axis.plot(x, y, "o", markersize=5, color=d.colour)
        points.append((x, y, d.name, d.colour))
    axis.set(xlabel=what, ylabel=_measure(script), title=f"Reached over {what.split()[0]}")
    if len({p[0] for p in points}) > 1:
        axis.set_xscale("log")
    axis.margins(x=0.25, y=0.2)
    front = pareto([(x, y) for x, y, _, _ in points], less=bool(script.tokens))
    if front[1:]:
        axis.plot(
            *zip(*front, strict=True), color="0.5", linewidth=0.9, linestyle="--", zorder=0,
            drawstyle="steps-post",
        )  # fmt: skip
    name_points(axis, points)


def pareto(points: Sequence[tuple[float, float]], *, less: bool) -> list[tuple[float, float]]:
    """The points (cost, reached) that none of lower or equal cost beats, the cheapest first.

    What is reached is better where it is ``less``, or where it is more.
    """
    sign = 1 if less else -1
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda p: (p[0], sign * p[1])):
        if not front or sign * value < sign * front[-1][1]:
            front.append((cost, value))
    return front


def _over(axis: Any, found: Sequence[Drawn], script: Script, key: str) -> None:
    """What was reached over the numbers of an option, a line and a band for rows alike but it."""
    series: dict[str, list[tuple[float, list[float], str]]] = {}
    for d in found:
        mine, reached = changes(d.row.entry), d.row.shown(script)
        x = number_of(mine.get(key, ""))
        if x is not None and reached:
            rest = [f"{k}={v}" for k, v in mine.items() if k != key]
            name = " ".join([Path(d.row.entry.recipe).stem, *rest])
            series.setdefault(name, []).append((x, reached, d.colour))
    for n, (name, values) in enumerate(series.items()):
        values.sort()
        at = [x for x, _, _ in values]
        low, mean, high = ([float(f(r)) for _, r, _ in values] for f in (min, np.mean, max))
        axis.plot(at, mean, "o-", color=f"C{n}", markersize=4, linewidth=1.2, label=name)
        axis.fill_between(at, low, high, color=f"C{n}", alpha=0.15, linewidth=0)
    numbers = [x for values in series.values() for x, _, _ in values]
    if min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
        axis.set_xscale("log")
    axis.set(xlabel=key, ylabel=_measure(script), title=f"Reached over {key}")
    axis.legend(fontsize="x-small", frameon=False)


def _layers(axis: Any, shots: Sequence[KeptShot]) -> None:
    """How far scores and gradients of a step are: by recipe, or with one layer quantized alone."""
    names = [shot.name for shot in shots][::-1]
    for offset, part in ((0.2, "outputs"), (-0.2, "gradients")):
        values = [getattr(shot, part) for shot in shots][::-1]
        axis.barh(
            np.arange(len(names)) + offset, [v or 0.0 for v in values], height=0.38, label=part
        )
    axis.set_yticks(range(len(names)), names, fontsize="x-small")
    axis.set(xlabel="SQNR against fp32, dB", title="One step, without training")
    axis.legend(fontsize="x-small", frameon=False)
