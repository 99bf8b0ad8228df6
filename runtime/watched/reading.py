"""Rows read back: of the folder or the file that a watched step wrote, or from a program."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ...compiler.errors import FileError
from .row import Exponents, WatchRow

ROWS = "watch.jsonl"
WRITTEN = "step.watch(to=FOLDER), quatrain run --watch-to FOLDER or watcher.save(FILE.jsonl)"
DISTRIBUTIONS = ("before", "after")
WORDS = frozenset({"name", "layer", "role", "of", "value", "format"})
COUNTS = frozenset({"step", "elements"})
UNKNOWN = "quantized"  # of a tensor that no quantizer reads
# In a file it is null, as JSON has no infinity, where all numbers fit.
ENDLESS = "sqnr"
FARTHEST = 1024  # exponent that a float may have


def read_rows(path: Path) -> tuple[WatchRow, ...]:
    """All rows by step, of a folder its ``watch.jsonl``; FileError where there are none.

    A last line that is cut short is left out: a run may be writing it. Of rows of one tensor in one
    step the last counts.
    """
    file = path / ROWS if path.is_dir() else path
    found: dict[tuple[int, str], WatchRow] = {}
    for number, (line, whole) in enumerate(_lines(file), 1):
        try:
            row = row_from(json.loads(line))
        except (ValueError, TypeError, KeyError, OverflowError):
            if not whole:
                break
            raise FileError(
                f"{file}, line {number} is no row of a watched step; {WRITTEN} writes them"
            ) from None
        found[row.step, row.name] = row
    if not found:
        raise FileError(f"{file} holds no rows: no step was looked at yet")
    return tuple(sorted(found.values(), key=lambda row: row.step))


def _lines(file: Path) -> list[tuple[str, bool]]:
    """The lines, each with whether it is whole."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError(f"there is no file {file}; {WRITTEN} writes one") from None
    except UnicodeDecodeError:
        raise FileError(f"{file} is no text; {WRITTEN} writes rows") from None
    except OSError as error:
        raise FileError(f"cannot read {file}: {error.strerror}") from None
    return [(line, line.endswith("\n")) for line in text.splitlines(keepends=True)]


def row_from(given: Mapping[str, Any]) -> WatchRow:
    """A row of plain data; ValueError, TypeError or KeyError where it is none."""
    known: dict[str, Any] = {}
    for f in fields(WatchRow):
        if f.name in given:
            known[f.name] = _reader(f.name)(given[f.name])
        elif f.default is MISSING:
            known[f.name] = None if f.name == UNKNOWN else given[f.name]
    if ENDLESS in known and known[ENDLESS] != known[ENDLESS] and math.isfinite(known["largest"]):
        known[ENDLESS] = math.inf
    return WatchRow(**known)


def _reader(name: str) -> Callable[[Any], object]:
    if name in DISTRIBUTIONS:
        return _exponents
    if name == UNKNOWN:
        return lambda given: None if given is None else _word(given)
    return _word if name in WORDS else _count if name in COUNTS else _number


def _word(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given


def _count(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise TypeError
    return given


def _number(given: object) -> float:
    """NaN of null."""
    if not isinstance(given, int | float | None) or isinstance(given, bool):
        raise TypeError
    return math.nan if given is None else float(given)


def _exponents(given: Mapping[str, Any] | None) -> Exponents | None:
    if given is None:
        return None
    first = given["first"]
    if not isinstance(first, int) or abs(first) > FARTHEST:
        raise TypeError
    rest = {k: _count(given.get(k, 0)) for k in ("zero", "subnormal", "infinite", "nan")}
    return Exponents(first, tuple(map(_count, given["counts"])), **rest)
