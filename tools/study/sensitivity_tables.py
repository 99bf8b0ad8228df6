"""What one layer alone does to a step: a table by layer, and the layers that hurt most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...runtime.report.tables import table
from ..bench.tables import NOTHING
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
    batches = (
        f"{start.batches} batch{'es' if start.batches > 1 else ''} of {script.batch or 'text'}"
    )
    state = f"state of {start.state}" if start.state else "weights as they are at the start"
    head = f"{script.network} on {script.data}, {batches}, {state}, on reference"
    parts: list[RenderableType] = [Text(head), Text(said(shots)), "", made]
    why = [(s.entry.label, s.result["error"]) for s in shots if s.result.get("error")]
    if why:
        failed = table("What failed", "row", "why")
        for line in why:
            failed.add_row(*line)
        parts += ["", failed]
    return Group(*parts)


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
    before, after = result["loss"]
    return [
        name,
        NOTHING if layer is None else f"{100 * layer.macs:.1f}",
        _sqnr(result["outputs"]),
        _sqnr(own),
        _sqnr(result["gradients"]),
        _turned(result["gradients"]),
        f"{100 * (after / before - 1):+.2f}" if before else NOTHING,
    ]


def _sqnr(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return NOTHING
    return "=" if gap["equal"] else NOTHING if gap["sqnr"] is None else f"{gap['sqnr']:.1f}"


def _turned(gap: Mapping[str, Any]) -> str:
    return NOTHING if gap["cosine"] is None else f"{gap['cosine']:.4f}"
