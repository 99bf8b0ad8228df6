"""Files written whole or not at all: a temporary file in the same folder, then a rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..compiler.errors import FileError


def write_bytes(path: Path, data: bytes) -> None:
    """Put ``data`` into ``path``; a reader sees the old file or the new one, never a part.

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
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(f"cannot write {path}: {error.strerror}") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
