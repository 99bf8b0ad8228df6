"""The folder that rows are written to as they come: ``watch.jsonl``, and files for TensorBoard.

A line of ``watch.jsonl`` is one row; a run that goes on appends to what it holds of the steps
before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...compiler.errors import FileError
from ..files import path_of, write_bytes
from ..telling import LOG
from ..watched.reading import ROWS
from ..watched.row import WatchRow
from .files import json_line

if TYPE_CHECKING:
    from .tensorboard import BoardWriter


class WatchFolder:
    """See above; ``done`` is the step that the run begins with."""

    def __init__(self, folder: str | Path, done: int) -> None:
        """FileError where the folder cannot be made, or its file of rows is no such file."""
        self.place = path_of(folder)
        _make(self.place)
        kept = _rows_before(self.place / ROWS, done)
        write_bytes(self.place / ROWS, kept)
        self._file = (self.place / ROWS).open("a", encoding="utf-8")
        self._board = _board(self.place, done)

    def add(self, rows: Sequence[WatchRow]) -> None:
        """Append rows; a reader sees whole lines."""
        try:
            self._file.write("".join(json_line(row) for row in rows))
            self._file.flush()
        except OSError as e:
            raise FileError(f"cannot write {self.place / ROWS}: {e.strerror}") from None
        if self._board is not None:
            self._board.add(rows)

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FileError(f"cannot write to {folder}: it is a file; name a folder") from None
    except OSError as e:
        raise FileError(f"cannot make the folder {folder}: {e.strerror}") from None


def _rows_before(path: Path, done: int) -> bytes:
    """What a file of rows holds of the steps ahead of ``done``; a line cut short is left out."""
    if not path.exists():
        return b""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [text for text in lines if text.endswith("\n")]
        kept = [text for text in whole if int(json.loads(text)["step"]) < done]
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise FileError(f"{path} holds no rows of a watched step; name another folder") from None
    return "".join(kept).encode()


def _board(folder: Path, done: int) -> BoardWriter | None:
    """What writes files for TensorBoard, where its library is there."""
    if find_spec("tensorboardX") is None:
        LOG.info("no files for TensorBoard: pip install 'quatrain[watch]' brings what writes them")
        return None
    from .tensorboard import BoardWriter

    return BoardWriter(folder, done)
