"""Every error a person can see: one class per stage, each one sentence with what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

# More known names than this are not listed whole: a sentence is read, a list is looked up.
MANY, NEAREST = 10, 5
LONGEST = 60  # characters of a value that a sentence shows


@dataclass(frozen=True, slots=True)
class FailedPass:
    """What repeats a failure of a pass: its label, how ``--pass`` names it, the text it was given.

    ``refused``: the pass said in a sentence of its own why it cannot do what it was asked.
    """

    label: str
    words: str
    text: str
    refused: bool


class QuatrainError(Exception):
    """Base of all errors raised on purpose; the command line prints one line and exits with 2.

    ``failed`` is set where a pass raised it, or left a program that is broken.
    """

    failed: FailedPass | None = None


class CaptureError(QuatrainError):
    """The model, the loss or the optimizer cannot be turned into one training step."""


class UnsupportedOpError(CaptureError):
    """The model uses an operation that has no counterpart in the IR."""


class ParseError(QuatrainError):
    """The IR text is not well formed."""


class VerifyError(QuatrainError):
    """A program breaks an invariant of the IR.

    ``at`` is the part that breaks it (an op, a declared value, a region, a pair of ``next`` or
    "return"), by which a reader of text finds the line.
    """

    def __init__(self, message: str, at: Hashable = None) -> None:
        super().__init__(message)
        self.at = at


class RecipeError(QuatrainError):
    """A recipe, a pass or one of their options is unknown or wrong."""


class NoKernelError(QuatrainError):
    """The target has no kernel for an op at these formats."""


class TargetError(QuatrainError):
    """The target is unknown, or this machine cannot build for it or run it."""


class InputError(QuatrainError):
    """A batch given to a step has the wrong number of tensors, shape, dtype, device or labels."""


class FileError(QuatrainError):
    """A file is missing, damaged, foreign or cannot be written."""


class DataError(QuatrainError):
    """A data set is missing, damaged or does not fit the program."""


class ExportError(QuatrainError):
    """A program, or this machine, cannot make the file of another system."""


class UsageError(QuatrainError):
    """A command was called with arguments that do not fit together."""


def shown(value: object) -> str:
    """``value`` as a sentence can hold it: its ``repr``, or its kind where that is long."""
    text = repr(value)
    if len(text) > LONGEST or not text.isprintable():
        return f"a {type(value).__name__}"
    return text


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown ``name``: the closest known one, and the others.

    Of more than ten known names the five nearest and the number of the rest.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown, rest = known, ""
    if len(known) > MANY:
        shown = difflib.get_close_matches(name, known, n=NEAREST, cutoff=0.0)
        rest = f" and {len(known) - len(shown)} more"
    return f"{hint}known: {', '.join(shown)}{rest}"
