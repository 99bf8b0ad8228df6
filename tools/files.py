"""Files written whole or not at all: a temporary file in the same folder, then a rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..compiler.errors import FileError


def write_text(path: Path, text: str) -> None:
    """Put ``text`` into ``path``; a reader sees the old file or the new one, never a part.

    Raises ``FileError`` where the folder is missing or not writable; nothing is left behind then.
    """
    folder = path.parent
    if not folder.is_dir():
        raise FileError(f"cannot write {path}: {folder} is no folder; make it first")
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder; name a file in it")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=folder)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(f"cannot write {path}: {error.strerror}") from error
        raise


def read_text(path: Path) -> str:
    """The text of ``path``; ``FileError`` where it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is no text file (byte {error.start} is no UTF-8)") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error


def make_folder(path: Path) -> Path:
    """The folder ``path``, made if it is missing."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def check_writable(path: Path) -> None:
    """Raise ``FileError`` now if ``path`` could not be written later, after long work."""
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: {path.parent} is no folder; make it first")
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write {path}: {path.parent} is not writable")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
