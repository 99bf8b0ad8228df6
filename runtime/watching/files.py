"""Rows in files: a line of JSON each, or a table of their numbers."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from ...compiler.errors import FileError
from ..files import write_bytes
from ..watched.reading import DISTRIBUTIONS
from ..watched.row import WatchRow


def save_rows(rows: Sequence[WatchRow], path: Path) -> None:
    """Write rows in the form that the name of the file asks for; FileError for another name."""
    if path.suffix == ".jsonl":
        text = "".join(map(json_line, rows))
    elif path.suffix == ".csv":
        text = _table(rows)
    else:
        raise FileError(f"{path} is neither .jsonl nor .csv, which is what rows are written as")
    write_bytes(path, text.encode())


def json_line(row: WatchRow) -> str:
    """A row as a line of JSON; what is not known is left out, infinity and NaN are null."""
    known = {k: v for k, v in asdict(row).items() if v is not None}
    return json.dumps({k: _plain(v) for k, v in known.items()}) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(rows: Sequence[WatchRow]) -> str:
    names = [f.name for f in fields(WatchRow) if f.name not in DISTRIBUTIONS]
    made = io.StringIO()
    lines = csv.writer(made, lineterminator="\n")
    lines.writerow(names)
    lines.writerows([[getattr(row, name) for name in names] for row in rows])
    return made.getvalue()
