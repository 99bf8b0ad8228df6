"""What one layer alone does to a step: a table by layer, and the layers that hurt most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...runtime.report.tables import table
from ..bench.tables import NOTHING
from .folder import Result
from .plan import Script
from .sensitivity import Shot, Start

HEADS = ("MACs %", "outputs", "own dW", "all dW", "cosine", "loss")
WORST = 3


def shot_tables(shots: Sequence[Shot], script: Script, start: Start) -> Group:
    """The rows in order of the network, behind a line that says what hurts most."""
    made = table("Quantized alone, without training", "", *HEADS, right=HEADS)
    for shot in shots:
        made.add_row(*_cells(shot))
    made.caption = (
        "outputs, own dW, all dW: SQNR in dB against fp32, of the scores, the layer's weight "
        "gradient and those of all layers; cosine: of all dW; loss: change in %; = equal; "
        "*: exempt in the recipe"
    )
    made.caption_justify = "left"
    parts: list[RenderableType] = [Text(shot_head(script, start)), Text(said(shots)), "", made]
    return Group(*parts, *failed_shots((s.entry.label, s.result) for s in shots))


def shot_head(script: Script, start: Start) -> str:
    """What one step was taken of."""
    batches = (
        f"{start.batches} batch{'es' if start.batches > 1 else ''} of {script.batch or 'text'}"
    )
    state = f"state of {start.state}" if start.state else "weights as they are at the start"
    return f"{script.network} on {script.data}, {batches}, {state}, on reference"


def failed_shots(found: Iterable[tuple[str, Result]]) -> list[RenderableType]:
    """A table of the rows that failed, where there are any."""
    why = [(label, result["error"]) for label, result in found if result.get("error")]
    if not why:
        return []
    failed = table("What failed", "row", "why")
    for line in why:
        failed.add_row(*line)
    return ["", failed]


def said(shots: Sequence[Shot]) -> str:
    """The layers that turn the gradients most, the worst first."""
    known = [(_cosine(s), s.layer.name) for s in shots if s.layer and _cosine(s) is not None]
    some = ", ".join(f"{name} ({cosine:.3f})" for cosine, name in sorted(known)[:WORST])
    return f"turn the gradients most, by cosine: {some}" if some else "no layer could be measured"


def _cosine(shot: Shot) -> float | None:
    found = shot.result.get("gradients")
    return None if found is None else found["cosine"]


def _cells(shot: Shot) -> list[str]:
    layer, result = shot.layer, shot.result
    name = shot.entry.label if layer is None else f"{layer.name}{'*' if layer.exempt else ''}"
    if result.get("error"):
        return [name, "failed"]
    own = None if layer is None else result["layers"][layer.name]["dw"]
    return [
        name,
        NOTHING if layer is None else f"{100 * layer.macs:.1f}",
        decibels(result["outputs"]),
        decibels(own),
        decibels(result["gradients"]),
        turned(result["gradients"]),
        loss_change(result),
    ]


def loss_change(result: Result) -> str:
    """What the loss of a step is more than fp32's, in percent."""
    before, after = result["loss"]
    return f"{100 * (after / before - 1):+.2f}" if before else NOTHING


def decibels(gap: Mapping[str, Any] | None) -> str:
    """The SQNR of a gap; = where there is none."""
    if gap is None:
        return NOTHING
    return "=" if gap["equal"] else NOTHING if gap["sqnr"] is None else f"{gap['sqnr']:.1f}"


def turned(gap: Mapping[str, Any]) -> str:
    """The cosine of a gap."""
    return NOTHING if gap["cosine"] is None else f"{gap['cosine']:.4f}"
