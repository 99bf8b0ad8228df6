"""One step by each of several recipes beside that of fp32: how far their gradients are from it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from ...runtime.report.tables import table
from ..bench.tables import NOTHING
from .entry import Entry
from .folder import Result
from .plan import Script
from .sensitivity import Start
from .sensitivity_tables import decibels, failed_shots, loss_change, shot_head, turned

HEADS = ("outputs", "all dW", "cosine", "by batch", "left", "loss")
CAPTION = (
    "outputs, all dW: SQNR in dB against fp32, of the scores and of the gradients of all weights; "
    "cosine: of these, the mean and the range of the batches; left: what is left of fp32's "
    "gradient in its own direction, 1 without bias; loss: change in %; = equal"
)


def gradient_tables(
    rows: Sequence[Entry], results: Sequence[Result], script: Script, start: Start
) -> Group:
    """The rows in the order given."""
    made = table("Gradients of one step, without training", "", *HEADS, right=HEADS)
    for row, result in zip(rows, results, strict=True):
        made.add_row(row.label, *_cells(result))
    made.caption, made.caption_justify = CAPTION, "left"
    parts: list[RenderableType] = [Text(shot_head(script, start)), "", made]
    return Group(*parts, *failed_shots((r.label, x) for r, x in zip(rows, results, strict=True)))


def _cells(result: Result) -> list[str]:
    if result.get("error"):
        return ["failed"]
    cosines, left = result.get("cosines") or [], result.get("left")
    known = [c for c in cosines if c is not None]
    spread = f"{min(known):.3f}..{max(known):.3f}" if known[1:] else NOTHING
    return [
        decibels(result["outputs"]),
        decibels(result["gradients"]),
        turned(result["gradients"]),
        spread,
        NOTHING if left is None else f"{left:.3f}",
        loss_change(result),
    ]
