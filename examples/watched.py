"""The exponents of gradients over the layers of ResNet-20, with and without two-phase rounding.

quatrain compile examples/watched.py:resnet --recipe ultra_low_4bit -o two.qtn
quatrain compile examples/watched.py:resnet --recipe ultra_low_4bit --set single=true -o one.qtn
quatrain run two.qtn --data cifar10 --steps 301 --watch dy,dgamma,dbeta --watch-to two
quatrain run one.qtn --data cifar10 --steps 301 --watch dy,dgamma,dbeta --watch-to one
python examples/watched.py two one -o watching.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import quatrain

Rows = list[dict[str, Any]]
# Exponents of a gradient times its GradScale: the even levels of FP4 are 4^-3 .. 4^3.
SHOWN = range(-12, 8)
PHASES = ("two-phase", "single")


def resnet() -> quatrain.Task:
    """ResNet-20 for batches of 64 images of CIFAR-10."""
    import torch

    import quatrain
    from quatrain.tools.models import resnet20

    torch.manual_seed(0)
    model = resnet20()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    example = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    loss = torch.nn.functional.cross_entropy
    return quatrain.Task(model=model, loss=loss, optimizer=optimizer, example=example)


def last_rows(folder: Path) -> Rows:
    """The rows of the last step that a run looked at."""
    rows: Rows = [json.loads(line) for line in (folder / "watch.jsonl").read_text().splitlines()]
    return [row for row in rows if row["step"] == rows[-1]["step"]]


def shares(row: dict[str, Any], which: str) -> list[float]:
    """The share of numbers of each exponent shown, behind it that of zeros."""
    bins, shift = row[which], round(row["scale"]).bit_length() - 1
    at = {bins["first"] + i + shift: n for i, n in enumerate(bins["counts"])}
    return [at.get(e, 0) / row["elements"] for e in SHOWN] + [bins["zero"] / row["elements"]]


def quantized(rows: Rows, of: str) -> Rows:
    """Gradients with a GradScale, by layer from the first to the last; ``of`` reads them."""
    found = [r for r in rows if r["role"] == "dy" and "scale" in r and r["of"] in ("", of)]
    return found[::-1]


def draw(folders: list[Path], to: Path) -> None:
    """Exponents ahead of rounding, and behind it; below the bias of rounding and of batch norm."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    two, one = map(last_rows, folders)
    figure, axes = pyplot.subplots(2, 3, figsize=(9, 6), height_ratios=(3, 2))
    panels = (
        (quantized(two, "dx"), "before", "dY ahead of rounding"),
        (quantized(two, "dx"), "after", "codes for dX (even levels)"),
        (quantized(two, "dw"), "after", "codes for dW (odd levels)"),
    )
    for axis, (rows, which, title) in zip(axes[0], panels, strict=True):
        image = [shares(row, which) for row in rows]
        axis.imshow(image, aspect="auto", cmap="magma_r", vmin=0, vmax=0.5)
        axis.set_title(title, fontsize=9)
        ticks = [*range(0, len(SHOWN), 4), len(SHOWN)]
        axis.set_xticks(ticks, [*(str(SHOWN[i]) for i in ticks[:-1]), "zero"], fontsize=7)
        axis.set_xlabel("exponent of dY times its GradScale", fontsize=8)
    axes[0][0].set_ylabel("layer, first to last", fontsize=8)
    for axis, role, number, title in (
        (axes[1][0], "dy", "gain", "gain of rounding dY (1: no bias)"),
        (axes[1][1], "dbeta", "error", "dbeta of batch norm: distance from f32"),
        (axes[1][2], "dgamma", "error", "dgamma of batch norm: distance from f32"),
    ):
        for rows, phase in ((two, PHASES[0]), (one, PHASES[1])):
            curves = {"": [r for r in rows if r["role"] == role][::-1]}
            if role == "dy":
                curves = {of: quantized(rows, of) for of in ("dx", "dw")}
                curves = curves if phase == PHASES[0] else {"dx": curves["dx"]}
            for of, some in curves.items():
                label = f"{phase}{f', {of}' if role == 'dy' and phase == PHASES[0] else ''}"
                axis.plot([r[number] for r in some], label=label, linewidth=1)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("layer, first to last", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs=2, type=Path, help="of the run in two phases, and in one")
    parser.add_argument("-o", "--output", type=Path, default=Path("watching.svg"))
    given = parser.parse_args()
    draw(given.folders, given.output)
