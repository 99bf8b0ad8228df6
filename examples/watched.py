"""The exponents of gradients over the layers of ResNet-20, with and without two-phase rounding.

python examples/watched.py --data-dir DIR --steps 300 -o watching.svg

Trains on CIFAR-10 in two phases, then looks at one more batch from that state in both ways.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import quatrain
from quatrain.runtime.step import Step
from quatrain.runtime.watched.row import WatchRow
from quatrain.tools.batches import train_batches
from quatrain.tools.data import load_data
from quatrain.tools.models import resnet20

BATCH = 64
# Exponents of a gradient times its GradScale: the even levels of FP4 are 4^-3 .. 4^3.
SHOWN = range(-12, 8)
Rows = Sequence[WatchRow]


def compiled(single: bool) -> Step:
    """ResNet-20 by the recipe, with one rounding of gradients or two."""
    torch.manual_seed(0)
    model = resnet20()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    example = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    loss = torch.nn.functional.cross_entropy
    return quatrain.compile(model, loss, example, optimizer, options={"single": single})


def looked_at(folder: Path, steps: int) -> tuple[Rows, Rows]:
    """The rows of one look in two phases, and of one with a single rounding, from one state."""
    two, one = compiled(single=False), compiled(single=True)
    batches = iter(train_batches(load_data("cifar10", folder), BATCH, seed=0, epoch=0, start=0))
    for _ in range(steps):
        x, y = map(torch.from_numpy, next(batches))
        two(x, y)
    one.load_state(two.state)
    x, y = map(torch.from_numpy, next(batches))
    found = []
    for step in (two, one):
        with step.watch("dy", "dw", "mean", "var", "dgamma", "dbeta", every=1, fp32=1) as watcher:
            step(x, y)
        found.append(watcher.rows())
    return found[0], found[1]


def shares(row: WatchRow, of_codes: bool) -> list[float]:
    """The share of numbers of each exponent shown, behind it that of zeros."""
    bins = row.after if of_codes and row.after else row.before
    shift = round(row.scale or 1).bit_length() - 1
    at = {bins.first + i + shift: n for i, n in enumerate(bins.counts)}
    return [at.get(e, 0) / row.elements for e in SHOWN] + [bins.zero / row.elements]


def rounded(rows: Rows, of: str) -> Rows:
    """Gradients with a GradScale from the first layer on, as the product ``of`` reads them."""
    found = [r for r in rows if r.role == "dy" and r.scale and r.of in ("", of)]
    return found[::-1]


def heat(axis: Any, title: str, rows: Rows, of_codes: bool) -> None:
    """Layers as lines, exponents as columns."""
    image = [shares(row, of_codes) for row in rows]
    axis.imshow(image, aspect="auto", cmap="magma_r", vmin=0, vmax=0.5)
    ticks = [*range(0, len(SHOWN), 4), len(SHOWN)]
    axis.set_xticks(ticks, [*(str(SHOWN[i]) for i in ticks[:-1]), "zero"])
    axis.set(title=title, xlabel="exponent of dY times its GradScale")


def curves(axis: Any, title: str, lines: dict[str, list[float | None]]) -> None:
    """A line each over the layers."""
    for i, (label, numbers) in enumerate(lines.items()):
        axis.plot(numbers, "-" if i % 2 else "--", label=label, linewidth=1)
    axis.set(title=title, xlabel="layer, first to last")
    axis.margins(y=0.3)
    axis.legend(ncols=2)


def draw(two: Rows, one: Rows, to: Path) -> None:
    """Exponents ahead of rounding and behind it; its bias, dW and batch norm beside f32."""
    from matplotlib import pyplot, rcParams

    small = {"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 7}
    rcParams.update(small | {"svg.fonttype": "none", "svg.hashsalt": "watched"})
    figure, axes = pyplot.subplots(2, 3, figsize=(9, 6), height_ratios=(3, 2))
    even, odd = rounded(two, "dx"), rounded(two, "dw")
    heat(axes[0][0], "dY ahead of rounding", even, of_codes=False)
    heat(axes[0][1], "codes for dX (single: for dW too)", even, of_codes=True)
    heat(axes[0][2], "codes for dW in two phases", odd, of_codes=True)
    axes[0][0].set_ylabel("layer, first to last")
    gains = {"dX": even, "dW": odd}
    curves(axes[1][0], "gain of rounding dY", {k: [r.gain for r in v] for k, v in gains.items()})
    layers = {r.layer for r in even}
    cosines = {
        name: [r.cosine for r in rows if r.role == "dw" and r.layer in layers][::-1]
        for name, rows in (("two phases", two), ("single", one))
    }
    curves(axes[1][1], "cosine of dW with f32", cosines)
    errors = {
        role: [r.error for r in two if r.role == role][:: -1 if role[0] == "d" else 1]
        for role in ("mean", "var", "dgamma", "dbeta")
    }
    curves(axes[1][2], "batch norm: distance from f32", errors)
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path, default=Path("watching.svg"))
    given = parser.parse_args()
    draw(*looked_at(given.data_dir, given.steps), given.output)
