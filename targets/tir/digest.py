"""The sources of kernels, so that a change of them misses the cache."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

# Of what the digest of a kernel covers: folders that make no code. A test looks who imports them.
ROOMS = ("compiler", "targets")
APART = ("compiler/capture", "compiler/lower")


@cache
def sources() -> str:
    """Digest of the files that generate kernels, so that a change of them misses the cache."""
    made = hashlib.sha256()
    for path in source_files(Path(__file__).parents[2]):
        made.update(path.read_bytes())
    return made.hexdigest()


def source_files(package: Path) -> list[Path]:
    """The files of ROOMS but not of those APART."""
    apart = tuple(package / room for room in APART)
    files = sorted(path for room in ROOMS for path in (package / room).rglob("*.py"))
    return [path for path in files if not any(path.is_relative_to(room) for room in apart)]
