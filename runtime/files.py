"""Files written whole or not at all: a temporary file in the same folder, then a rename."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from ..compiler.errors import FileError, shown


def write_bytes(path: Path, data: bytes) -> None:
    """Put ``data`` into ``path``; a reader sees the old file or the new one, never a part.

    A symbolic link stays one; the file that it points to is replaced. Raises ``FileError`` where
    the folder is missing or not writable or the disk is full; nothing is left behind then.
    """
    place = place_of(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{place.name[:100]}.", dir=place.parent)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(place)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise


def path_of(given: object) -> Path:
    """The path that a person gave; FileError for what is no name of a file."""
    if not isinstance(given, str | os.PathLike):
        raise FileError(f"{shown(given)} is no name of a file; give a str or a pathlib.Path")
    path = Path(given)
    if set(str(path)) & set("\0\r\n"):
        raise FileError(f"{str(path)!r} is no name of a file; it holds a line's or a text's end")
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise FileError(f"{path.name[:20]}... is no name of a file; it is too long") from None
    return path


def place_of(path: Path) -> Path:
    """Where ``path`` leads through links; FileError unless that is a file or a place for one."""
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise FileError(f"cannot write {path}: {place.parent} is no folder; make it first")
    if place.is_dir():
        raise FileError(f"cannot write {path}: it is a folder; name a file in it")
    if place.exists() and not place.is_file():
        raise FileError(f"cannot write {path}: it is a device or a pipe; name a file")
    return place


def _refused(path: Path, error: OSError) -> FileError:
    before = "; what it held before is still there" if path.is_file() else ""
    return FileError(f"cannot write {path}: {error.strerror}{before}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
