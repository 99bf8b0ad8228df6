"""The cache of compiled kernels: a folder of libraries, and for each kernel a file that names one.

    <digest of its contents>.so      several kernels; without a linker .ll, LLVM's text form
    <digest of a kernel>.kernel      the library's name, the kernel's number in it, a checksum

Contents that do not agree with their digest are taken for absent. Every file is written beside its
final name and moved there, and a library before the kernels that name it, so no reader sees half of
one, and processes may fill a folder at once.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SUFFIX = ".kernel"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a kernel is: the file name of a library, and its number there."""

    library: str
    number: int

    def line(self, kernel: str) -> str:
        """The contents of the kernel's file."""
        text = f"{self.library} {self.number}"
        return f"{text} {digest(f'{kernel} {text}'.encode())}\n"


@dataclass(frozen=True, slots=True)
class Store:
    """The cache in ``folder``, which need not exist."""

    folder: Path

    def find(self, kernel: str) -> Stored | None:
        """The place of a kernel; None where it is not known."""
        try:
            line = (self.folder / (kernel + SUFFIX)).read_text()
            library, number, _ = line.split()
            found = Stored(library, int(number))
        except (OSError, ValueError):
            return None
        return found if line == found.line(kernel) else None

    def library(self, name: str) -> Path | None:
        """The file of a library; None where it is absent or damaged."""
        path = self.folder / name
        try:
            return path if path.stem == digest(path.read_bytes()) else None
        except OSError:
            return None

    def add(self, draft: Path, digests: Iterable[str]) -> Path | None:
        """Keep the library ``draft`` and the places of its kernels; None where that is refused."""
        try:
            path = self.folder / (digest(draft.read_bytes()) + draft.suffix)
            draft.replace(path)
            for i, kernel in enumerate(digests):
                note = draft.with_suffix(SUFFIX)
                note.write_text(Stored(path.name, i).line(kernel))
                note.replace(self.folder / (kernel + SUFFIX))
        except OSError as error:
            _warn(self.folder, error.strerror)
            return None
        return path

    def scratch(self) -> tempfile.TemporaryDirectory[str] | None:
        """A folder for drafts, on the same disk; None where the cache cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(dir=self.folder, prefix="draft-")
        except OSError as error:
            _warn(self.folder, error.strerror)
            return None


@cache
def _warn(folder: Path, why: str | None) -> None:
    """Said once: without a cache each process compiles all kernels again."""
    logging.getLogger("quatrain").warning(
        "the cache of kernels %s cannot be written (%s), so each process compiles them again; name "
        "another folder with QUATRAIN_CACHE",
        folder,
        why or "no reason given",
    )


def digest(contents: bytes) -> str:
    """By which a file is known by its contents."""
    return hashlib.sha256(contents).hexdigest()[:32]
