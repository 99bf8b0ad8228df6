"""Text files and folders that a user names, with errors of one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from ..compiler.errors import FileError, UsageError
from ..runtime.files import place_of, write_bytes


def write_text(path: Path, text: str) -> None:
    """Put ``text`` into ``path``, whole or not at all; see ``write_bytes``."""
    write_bytes(path, text.encode())


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
    except (FileExistsError, NotADirectoryError) as error:
        raise FileError(
            f"cannot make the folder {path}: it is a file, or lies in one; name another"
        ) from error
    except OSError as error:
        raise FileError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def check_writable(path: Path) -> None:
    """Raise ``FileError`` now if ``path`` could not be written later, after long work."""
    folder = place_of(path).parent
    if not os.access(folder, os.W_OK):
        raise FileError(f"cannot write {path}: {folder} is not writable; name another folder")


def check_exists(path: Path) -> None:
    """Raise ``FileError`` unless there is a file ``path``."""
    if not path.is_file():
        raise FileError(f"there is no file {path} (looked for from {Path.cwd()})")


def factory_file(spec: str) -> tuple[Path, str]:
    """File and function of ``FILE.py:FACTORY``; an error where it reads otherwise, or no file."""
    file, colon, name = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise UsageError(f"{spec!r} is no FILE.py:FACTORY, for example examples/digits.py:digits")
    path = Path(file)
    check_exists(path)
    return path, name
