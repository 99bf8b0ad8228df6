"""What to do where the forward needs the value of a tensor, which no trace knows."""

from __future__ import annotations

import re

from ..errors import CaptureError
from .adapter import DEPENDS_ON_DATA, CallMark
from .scope import is_library

# Calls that turn a tensor into an array or text, which torch refuses to trace in words of its own.
ARRAYS = r"numpy|__array__"
OWN_WORDS = rf"{ARRAYS}|__format__|data_ptr|__deepcopy__"
# Calls by regular expressions of their names: how a user writes them, and what to do instead.
READS: tuple[tuple[str, str, str], ...] = (
    (
        r"item|__bool__|is_nonzero|__contains__",  # torch calls item for each of them
        "a branch on a tensor, its bool() or item(),",
        "choose with torch.where in place of a branch, leave a number a tensor of 0 dimensions, or "
        "give the model a plain bool or number when it is made",
    ),
    (
        r"equal|allclose|all|any",
        "{name}",
        "choose with torch.where, or compare outside of the step",
    ),
    (
        rf"tolist|__float__|__int__|__index__|{ARRAYS}",
        "{name}",
        "leave the number a tensor, of 0 dimensions, or give it as a plain number when the model "
        "is made",
    ),
    (
        r"__format__",
        "a format such as f'{{x:.3f}}' of a tensor",
        "print what the step gives back, its loss or predict(x), outside of it; f'{x}' shows no "
        "numbers there either",
    ),
    (
        r"data_ptr|__deepcopy__",
        "{name}",
        "copy with clone() or detach(), which a trace can follow",
    ),
    (
        r"__getitem__|__setitem__|index\w*|masked_select|where|nonzero\w*|argwhere|unique\w*",
        "{name} with a result of unknown size",
        "keep all elements and multiply by a mask, choose with torch.where(mask, x, y), or select "
        "outside of the step and give the result as an input",
    ),
)
SPOKEN = {"__getitem__": "x[mask]", "__setitem__": "x[mask] = ..."}
OUTSIDE = "compute that outside of the step and give the result as an input"


def reads_value(error: Exception, failed: CallMark | None) -> bool:
    """Whether a trace failed because the call ``failed`` needs numbers."""
    own = failed is not None and re.fullmatch(OWN_WORDS, failed[2]) is not None
    said = own and isinstance(error, RuntimeError | TypeError)
    return isinstance(error, DEPENDS_ON_DATA) or said or "data pointer" in str(error)


def needs_value(failed: CallMark | None, place: str) -> CaptureError:
    """The error for a call that needs numbers where a trace has only shapes.

    ``failed`` is the call as the scope saw it; where it saw none, ``place`` says where.
    """
    layer, source, name = failed or ("", place, "")
    where = (f" in layer {layer!r}" if layer else "") + (f" at {source}" if source else "")
    fits = (row for row in READS if re.fullmatch(row[0], name))
    _, what, advice = next(fits, ("", "{name}" if name else "the forward", OUTSIDE))
    if is_library(source):
        advice += "; the line is a library's: look for an argument that takes another way"
    return CaptureError(
        f"{what.format(name=_spoken(name))}{where} needs the value of a tensor ahead of any "
        f"batch; {advice}"
    )


def called_in(failed: CallMark | None) -> str:
    """`` in mse_loss of layer 'loss'``: the call that raised; empty where none did."""
    return f" in {_spoken(failed[2])} of layer {failed[0]!r}" if failed and failed[2] else ""


def _spoken(name: str) -> str:
    return SPOKEN.get(name, f"{name.strip('_')}()")
