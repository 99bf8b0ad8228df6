"""``quatrain watched``: numbers of a watched run over its steps, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...runtime.watched.reading import read_rows
from .. import terminal
from ..arguments import JsonOption
from ..watched_rows import FIELDS, series, watched_table

USUAL = "sqnr"

FolderArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER|FILE.jsonl", help="What run --watch-to, or step.watch(to=), named."
    ),
]
OfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--of", metavar="PATTERN[,PATTERN]", help="Names or roles: dy, '*.dy.dx', mean (all)."
    ),
]
ShowOption = Annotated[
    list[str] | None,
    typer.Option("--show", metavar="NUMBER", help=f"{', '.join(FIELDS)}; may repeat ({USUAL})."),
]


def command(
    folder: FolderArgument,
    of: OfOption = None,
    show: ShowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print numbers of a watched run over its steps, a row a tensor.

    What the numbers are: docs/watching.md.
    """
    rows, patterns = read_rows(folder), _words(of)
    fields = _words(show) or [USUAL]
    found = [series(rows, patterns, field) for field in fields]
    if as_json:
        terminal.write_json({"rows": [one.to_dict() for some in found for one in some]})
        return
    for field, some in zip(fields, found, strict=True):
        terminal.show(watched_table(some, field))


def _words(given: list[str] | None) -> list[str]:
    """An option that may be given again or with commas, each word once."""
    words = (word.strip() for part in given or () for word in part.split(","))
    return list(dict.fromkeys(word for word in words if word))
